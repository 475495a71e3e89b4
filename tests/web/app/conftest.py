# SPDX-License-Identifier: Apache-2.0
"""A prediction small enough to check by hand, images of the synthetic room, and the app that serves them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from app_process import ServedApp, served_app
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


@pytest.fixture(scope="session")
def served(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """The app with one example, `a room`, of two images."""
    pytest.importorskip("gradio", reason="the web app needs `pip install gradio`")
    folder = tmp_path_factory.mktemp("app")
    example = folder / "workspace/examples/a room"
    example.mkdir(parents=True)
    for picture in pictures[:2]:
        (example / picture.name).write_bytes(picture.read_bytes())
    with served_app(folder) as served:
        yield served
