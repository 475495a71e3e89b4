# SPDX-License-Identifier: Apache-2.0
"""Image files to work on, and the da3 command in this process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder, with a space in its name, of three views whose names sort naturally as 1, 2, 10."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("1.png", "2.JPG", "10.webp"):
        Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8)).resize((160, 120)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "._1.png").write_bytes(b"what macOS leaves behind")
    return folder


@pytest.fixture
def da3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """`da3(*arguments)` runs the command within `tmp_path` and returns exit code, stdout and stderr."""
    from da3_core.cli import app

    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
