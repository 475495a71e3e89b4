# SPDX-License-Identifier: Apache-2.0
"""Image files to work on, and the da3 command in this process."""

import logging
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
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
def da3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """`da3(*arguments)` runs the command within `tmp_path` and returns exit code, stdout and stderr."""
    from da3_core.cli import app

    logger = logging.getLogger("da3_core")  # which the command sets up for its own process
    level, handlers = logger.level, list(logger.handlers)
    monkeypatch.chdir(tmp_path)
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """`make_video(name, times_ms)` writes a lossless video whose frame `i` is grey level `10 * i`."""
    av = pytest.importorskip("av")

    def make(name: str, times_ms: Sequence[int], size: tuple[int, int] = (48, 64)) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
            stream = container.add_stream("ffv1", rate=30)
            stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
            stream.codec_context.time_base = Fraction(1, 1000)
            for i, time_ms in enumerate(times_ms):
                frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 10 * i % 256, np.uint8), format="rgb24")
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
