# SPDX-License-Identifier: Apache-2.0
"""Depth as colours, and the side-by-side images read back by OpenCV."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from da3_core.export import export
from da3_core.prediction import Prediction
from da3_core.visualise import colorize_depth, depth_range

NEAR, MIDDLE, FAR = (158, 1, 66), (254, 254, 190), (94, 79, 162)


def test_colour_is_linear_in_inverse_depth() -> None:
    depth = np.array([[1, 4 / 3, 2, 4, 0.5, 9]], np.float32)
    colors = colorize_depth(depth, near=1, far=4)[0]
    assert tuple(colors[0]) == tuple(colors[4]) == NEAR  # nearer than near is near
    assert tuple(colors[3]) == tuple(colors[5]) == FAR
    # 3/4 is a third of the way from 1 to 1/4: a third of a step from the fourth to the fifth of eleven colours.
    assert np.abs(colors[1].astype(int) - (253, 191, 111)).max() <= 2


def test_range_is_2_to_98_percent_of_inverse_depth() -> None:
    inverse = np.linspace(0.1, 1.1, 101)
    near, far = depth_range(np.append(1 / inverse, [0, -3, np.nan, np.inf]))
    assert near == pytest.approx(1 / 1.08)
    assert far == pytest.approx(1 / 0.12)


def test_invalid_depth_is_far_and_silent(recwarn: pytest.WarningsRecorder) -> None:
    depth = np.linspace(1, 2, 100, dtype=np.float32).reshape(10, 10)
    depth[0, :6] = (0, -1, np.nan, np.inf, -np.inf, 1e-45)
    assert {tuple(c) for c in colorize_depth(depth)[0, :6]} == {FAR}
    for nothing in (np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), np.float16)):
        assert {tuple(c) for c in colorize_depth(nothing).reshape(-1, 3)} == {MIDDLE}
    flat = np.unique(colorize_depth(np.full((4, 4), 3.0)).reshape(-1, 3), axis=0)
    assert len(flat) == 1
    assert not recwarn.list


def test_image_left_depth_right(prediction: Prediction, tmp_path: Path) -> None:
    height, width = prediction.depth.shape[1:]
    image = np.full((3, height, width, 3), (200, 30, 60), np.uint8)
    depth = np.linspace(5, 2, height, dtype=np.float32)[None, :, None].repeat(3, 0).repeat(width, 2)
    written = export(dataclasses.replace(prediction, processed_images=image, depth=depth), tmp_path, "depth_vis")
    assert written["depth_vis"] == [tmp_path / f"depth_vis/{i:04d}.jpg" for i in range(3)]
    picture = cv2.imread(str(written["depth_vis"][2]))[:, :, ::-1].astype(int)
    assert picture.shape == (height, 2 * width, 3)
    assert np.abs(picture[:, : width - 8] - (200, 30, 60)).max() < 6
    right = picture[:, width + 8 :]
    assert np.abs(right[0] - FAR).max() < 20
    assert np.abs(right[-1] - NEAR).max() < 20


def test_common_range_gives_equal_depth_equal_colour(prediction: Prediction, tmp_path: Path) -> None:
    depth = np.ones_like(prediction.depth)
    depth[0, :14], depth[1, :14], depth[2, :14] = 2, 4, 8
    changed = dataclasses.replace(prediction, depth=depth)
    halves = []
    for common in (True, False):
        files = export(changed, tmp_path, "depth_vis", export_kwargs={"depth_vis": {"common_range": common}})
        pictures = [cv2.imread(str(path)).astype(int) for path in files["depth_vis"]]
        halves.append([picture[3, -8] for picture in pictures])
    (near, _, far), per_view = halves
    assert np.abs(near - far).max() > 50
    assert np.abs(np.diff(per_view, axis=0)).max() < 8
