# SPDX-License-Identifier: Apache-2.0
"""A small prediction whose arrays refuse to be written to, and a way to look at what an export left on the disk."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from da3_core.prediction import Gaussians, Prediction

VIEWS, HEIGHT, WIDTH = 3, 28, 42


def freeze(prediction: Prediction) -> Prediction:
    for field in dataclasses.fields(prediction):
        value = getattr(prediction, field.name)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return prediction


@pytest.fixture
def prediction() -> Prediction:
    """Three cameras in a row looking at a slanted wall, with holes in the depth."""
    random = np.random.default_rng(5)
    depth = np.linspace(2, 5, VIEWS * HEIGHT * WIDTH, dtype=np.float32).reshape(VIEWS, HEIGHT, WIDTH)
    depth[0, 3, 4:9] = (0, -1, np.nan, np.inf, -np.inf)
    extrinsics = np.tile(np.eye(4, dtype=np.float32), (VIEWS, 1, 1))
    extrinsics[:, 0, 3] = (0, -0.5, -1)
    count = VIEWS * HEIGHT * WIDTH
    torch.manual_seed(5)
    gaussians = Gaussians(
        means=torch.randn(1, count, 3),
        scales=torch.rand(1, count, 3) + 0.01,
        rotations=torch.nn.functional.normalize(torch.randn(1, count, 4), dim=-1),
        harmonics=torch.randn(1, count, 3, 9),
        opacities=torch.rand(1, count),
    )
    focal = np.array([[40, 0, WIDTH / 2], [0, 41, HEIGHT / 2], [0, 0, 1]], np.float32)
    return freeze(
        Prediction(
            depth=depth,
            is_metric=1,
            conf=1 + random.random((VIEWS, HEIGHT, WIDTH)).astype(np.float32),
            sky=random.random((VIEWS, HEIGHT, WIDTH)) < 0.1,
            extrinsics=extrinsics,
            intrinsics=np.tile(focal, (VIEWS, 1, 1)),
            processed_images=random.integers(0, 256, (VIEWS, HEIGHT, WIDTH, 3), dtype=np.uint8),
            gaussians=gaussians,
            aux={f"feat_layer_{layer}": random.random((VIEWS, 2, 3, 8)).astype(np.float32) for layer in (5, 11)},
            scale_factor=2.5,
            original_sizes=np.array([[280, 420]] * VIEWS),
            processed_from_original=np.tile(np.diag([0.1, 0.1, 1.0]), (VIEWS, 1, 1)),
            image_names=("/data/run/left/a.jpg", "/data/run/left/b.jpg", "/data/run/ri ght/ä.jpg"),
        )
    )


@pytest.fixture
def monocular(prediction: Prediction) -> Prediction:
    """What a monocular model knows: depth and sky."""
    unknown = ("conf", "extrinsics", "intrinsics", "scale_factor", "gaussians", "image_names")
    return dataclasses.replace(prediction, is_metric=0, aux={}, **dict.fromkeys(unknown))


@pytest.fixture
def files_under() -> Callable[[Path], dict[str, bytes]]:
    """Every file under a folder, hidden ones included, by relative path."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
