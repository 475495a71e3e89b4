# SPDX-License-Identifier: Apache-2.0
"""A run that was killed goes on where it was, and its results are those of a run that nothing ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--model", "untrained:da3-small", "--device", "cpu", "--engine", "torch", "--process-res")


def end_after(windows: int, how: signal.Signals, arguments: tuple[Any, ...], kept: Path) -> int:
    """Run `da3` in the working directory until it has kept some windows in a folder, then end it; its exit code."""
    command = [sys.executable, "-m", "da3_core.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as child:
        while child.poll() is None and len(list(kept.glob("*.window"))) < windows:
            time.sleep(0.01)
        child.send_signal(how)
    return child.returncode


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_bag_that_was_ended_is_resumed(
    walk: Walk, tmp_path: Path, da3: Callable[..., Any], how: signal.Signals, code: int
) -> None:
    pytest.importorskip("rosbags", reason="needs the package rosbags")
    bag = write_bag(walk, tmp_path / "walk")
    # Messages of whole windows tell how long the inference took.
    chosen = ("bag", bag, *SMALL, "98", "--window", "2", "--duration", "0.9", "--no-window-messages", "--output-bag")
    assert end_after(3, how, (*chosen, "first/out", "--resume"), tmp_path / "first/.out.windows") == code
    assert not (tmp_path / "first/out").exists()
    resumed = da3(*chosen, "first/out", "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    kept = int(resumed.stderr.partition(" finished windows of an earlier run")[0].rpartition(" ")[2])
    assert 3 <= kept < 8
    assert not list(tmp_path.glob("first/.*")), "the work folder goes"
    assert da3(*chosen, "plain/out").exit_code == 0
    assert (tmp_path / "first/out/out.mcap").read_bytes() == (tmp_path / "plain/out/out.mcap").read_bytes()


def test_images_that_were_ended_are_resumed(walk: Walk, tmp_path: Path, da3: Callable[..., Any]) -> None:
    (tmp_path / "in").mkdir()
    for i, image in enumerate(walk.images[:12]):
        Image.fromarray(image).save(tmp_path / f"in/{i}.png")
    chosen = ("images", tmp_path / "in", *SMALL, "98", "--max-views-per-window", "4", "--export-format", "npz-tum")
    assert end_after(1, signal.SIGKILL, (*chosen, "--export-dir", "out", "--resume"), tmp_path / ".out.windows") == -9
    resumed = da3(*chosen, "--export-dir", "out", "--resume", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    kept = int(resumed.stderr.partition(" finished windows of an earlier run")[0].rpartition(" ")[2])
    rows = json.loads(resumed.stdout)["windows"]
    assert [row["worker"] for row in rows] == ["kept"] * kept + [""] * (5 - kept)
    assert {(row["views"], row["lost_workers"], row["error"]) for row in rows} == {(4, 0, None)}
    assert da3(*chosen, "--export-dir", "plain").exit_code == 0
    assert content(tmp_path / "out") == content(tmp_path / "plain")
