# SPDX-License-Identifier: Apache-2.0
"""A prediction small enough to check by hand, pictures of the synthetic room, and the app as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3_core.prediction import Prediction
from da3_core.synthetic import Walk

HEIGHT, WIDTH = 20, 30


@pytest.fixture
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Two views of a wall at depth 1, with black, white and grey pixels, each as confident as its column says.

    The focal length is 10 pixels and the principal point the centre of pixel (9, 9). Its images, a.png and b.png, are
    3 times as wide and 2 times as high.
    """
    names = [str(tmp_path_factory.mktemp("pictures") / "a.png")]
    names.append(names[0].replace("a.png", "b.png"))
    for name in names:
        Image.new("RGB", (3 * WIDTH, 2 * HEIGHT)).save(name)
    images = np.full((2, HEIGHT, WIDTH, 3), 128, np.uint8)
    images[:, :5] = 3
    images[:, 5:7] = 250
    cameras = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    cameras[1, 0, 3] = -0.5
    return Prediction(
        depth=np.ones((2, HEIGHT, WIDTH), np.float32),
        is_metric=1,
        conf=np.broadcast_to(1 + np.arange(WIDTH, dtype=np.float32), (2, HEIGHT, WIDTH)).copy(),
        extrinsics=cameras,
        intrinsics=np.tile(np.array([[10, 0, 9.5], [0, 10, 9.5], [0, 0, 1]], np.float32), (2, 1, 1)),
        processed_images=images,
        original_sizes=np.array([[40, 90], [40, 90]]),
        processed_from_original=np.tile(np.diag([1 / 3, 1 / 2, 1.0]), (2, 1, 1)),
        image_names=tuple(names),
    )


@pytest.fixture(scope="session")
def pictures(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three views of the room as files of 112 x 84 pixels."""
    folder = tmp_path_factory.mktemp("room")
    files = [folder / f"{frame}.png" for frame in (0, 6, 12)]
    for file, frame in zip(files, (0, 6, 12), strict=True):
        Image.fromarray(walk.images[frame]).resize((112, 84)).save(file)
    return files


@dataclass(frozen=True)
class ServedApp:
    """Where `da3 gradio` listens, and its folders."""

    url: str
    workspace: Path
    gallery: Path


@pytest.fixture(scope="package")
def served(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """The app with a small untrained model and one example, `a room`; at the end it must go quietly."""
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    folder = tmp_path_factory.mktemp("app")
    example = folder / "workspace/examples/a room"
    example.mkdir(parents=True)
    for picture in pictures[:2]:
        (example / picture.name).write_bytes(picture.read_bytes())
    command = [sys.executable, "-m", "da3_core.cli", "gradio", "--model-dir", "untrained:da3-small"]
    command += ["--workspace-dir", str(folder / "workspace"), "--gallery-dir", str(folder / "gallery")]
    command += ["--port", "0", "--device", "cpu", "--process-res", "112", "--cache-examples"]
    # No proxy that may be set up here is to be asked for this machine's own addresses.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1,localhost"}
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + process.stderr.read()
        yield ServedApp(address[0], folder / "workspace", folder / "gallery")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert errors.endswith("app closed\n")
    assert [path.name for path in (folder / "workspace/input_images").iterdir()] == ["example_a room"]
