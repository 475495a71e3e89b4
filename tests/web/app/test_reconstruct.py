# SPDX-License-Identifier: Apache-2.0
"""Choices of a visitor reach the network, and Gaussians become files and then go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from da3_core.errors import InputError
from da3_core.options import ModelOptions
from da3_core.prediction import Gaussians, Prediction
from da3_core.web.app.reconstruct import Choices, reconstruct, write_result
from da3_core.web.model_runner import ModelRunner


@contextmanager
def unseen(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    yield lambda done: None


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "huge"},
        {"camera_path": "loop"},
        {"quality": "best"},
        {"focal_length_px": float("nan")},
        {"hfov_deg": 60.0, "focal_from_exif": True},
        {"hfov_deg": 60.0, "camera_matrix": "1 0 0 0 1 0 0 0 1"},
    ],
)
def test_what_a_page_never_sends_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Choices(**wrong)


def test_method_and_focal_length_reach_the_network(pictures: list[Path]) -> None:
    runner = ModelRunner(ModelOptions("untrained:da3-small", device="cpu"))
    choices = Choices(method="high_res", focal_length_px=150)
    prediction = reconstruct(runner, pictures[:1], 70, choices, unseen)
    assert prediction.depth.shape == (1, 70, 98)  # the shorter side of 112 x 84 is resized to 70
    np.testing.assert_allclose(prediction.original_intrinsics(), [[[150, 0, 56], [0, 150, 42], [0, 0, 1]]], rtol=1e-4)


def test_a_camera_matrix_is_taken_as_people_write_it(pictures: list[Path]) -> None:
    for text in ("150 0 56 0 140 42 0 0 1", "[[150, 0, 56],\n [0, 140, 42],\n [0, 0, 1]]", "150,0,56;0,140,42;0,0,1\n"):
        matrices = Choices(camera_matrix=text).intrinsics(pictures[:2])
        np.testing.assert_array_equal(matrices, [[[150, 0, 56], [0, 140, 42], [0, 0, 1]]] * 2)
    for wrong in ("150 0 56", "a 0 56 0 140 42 0 0 1", "0 0 56 0 140 42 0 0 1"):
        with pytest.raises(InputError):
            Choices(camera_matrix=wrong).intrinsics(pictures[:1])


def test_the_camera_is_told_as_to_the_command(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.new("RGB", (112, 84)).save(tmp_path / "photo.jpg", exif=exif)
    runner = ModelRunner(ModelOptions("untrained:da3-small", device="cpu"))
    for choices, focal in ((Choices(focal_from_exif=True), 28 / np.hypot(36, 24) * 140), (Choices(hfov_deg=90), 56)):
        prediction = reconstruct(runner, [tmp_path / "photo.jpg"], 56, choices, unseen)
        np.testing.assert_allclose(prediction.original_intrinsics()[0, 0, 0], focal, rtol=1e-4)
        assert prediction.intrinsics_source == ("known",)


def test_gaussians_become_a_video_and_a_file_and_are_let_go(prediction: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("av")
    count = prediction.depth.size
    gaussians = Gaussians(
        means=torch.rand(1, count, 3) + torch.tensor([0.0, 0.0, 1.0]),
        scales=torch.full((1, count, 3), 0.02),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        harmonics=torch.rand(1, count, 3, 9),
        opacities=torch.full((1, count), 0.9),
    )
    kept = write_result(replace(prediction, gaussians=gaussians), tmp_path, Choices(infer_gs=True))
    assert kept.gaussians is None
    video = cv2.VideoCapture(str(tmp_path / "gs_video/0000_interpolate_smooth.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) >= 24
    assert (tmp_path / "gs_ply/0000.ply").is_file()
    assert sorted(path.name for path in (tmp_path / "depth_vis").iterdir()) == ["0000.jpg", "0001.jpg"]
