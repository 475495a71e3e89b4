# SPDX-License-Identifier: Apache-2.0
"""The node from colcon where what rosdep does not know was not installed."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/da3_node"


def test_a_node_without_its_python_packages_ends_with_one_sentence_that_names_the_command() -> None:
    isolated = [sys.executable, "-I", "-S", str(SCRIPT)]  # without the packages of the environment
    ended = subprocess.run(isolated, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "torch" in ended.stderr
    assert "pip install -r requirements.txt" in ended.stderr
