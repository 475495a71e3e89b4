# SPDX-License-Identifier: Apache-2.0
"""Every control of the point cloud changes it, in each format that holds one, and nothing is inferred anew."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.prediction import Prediction
from da3_core.web.app.clouds import CloudOptions, write_cloud
from da3_core.web.app.downloads import write_downloads

ALL = CloudOptions(show_cameras=False, filter_percentage=0)
PIXELS = 2 * 20 * 30


@pytest.mark.parametrize(
    ("options", "points"),
    [
        (ALL, PIXELS),
        (replace(ALL, filter_black=True), PIXELS - 2 * 5 * 30),
        (replace(ALL, filter_white=True), PIXELS - 2 * 2 * 30),
        (replace(ALL, filter_black=True, filter_white=True), PIXELS - 2 * 7 * 30),
        (replace(ALL, filter_percentage=50), PIXELS // 2),  # the right half, which is the more confident
        (replace(ALL, filter_percentage=95), 2 * 20 * 2),
        (replace(ALL, max_points=70), 70),
    ],
)
def test_filters_leave_out_what_they_say(
    prediction: Prediction, options: CloudOptions, points: int, tmp_path: Path
) -> None:
    trimesh = pytest.importorskip("trimesh")
    (cloud,) = trimesh.load(write_cloud(prediction, 0, tmp_path, options)).geometry.values()
    assert len(cloud.vertices) == points
    ply = write_downloads(prediction, 0, tmp_path, options)["PLY"]
    assert len(trimesh.load(ply).vertices) == points
    assert np.isfinite(prediction.depth).all()  # which the filters see a copy of


def test_cameras_are_drawn_where_wanted(prediction: Prediction, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(write_cloud(prediction, 0, tmp_path, replace(ALL, show_cameras=True)))
    assert sum(name.startswith("camera") for name in scene.geometry) == 2


def test_without_poses_the_chosen_view_has_a_cloud_of_its_own(prediction: Prediction, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    images = prediction.processed_images.copy()
    images[1] = (10, 200, 10)
    unposed = replace(prediction, extrinsics=None, processed_images=images)
    (cloud,) = trimesh.load(write_cloud(unposed, 1, tmp_path, ALL)).geometry.values()
    assert len(cloud.vertices) == PIXELS // 2
    assert (cloud.colors[:, :3] == (10, 200, 10)).all()


def test_without_intrinsics_a_sentence_says_what_is_missing(prediction: Prediction, tmp_path: Path) -> None:
    unknown = replace(prediction, extrinsics=None, intrinsics=None)
    with pytest.raises(InputError, match="give the focal length"):
        write_cloud(unknown, 0, tmp_path / "new", ALL)
    assert not (tmp_path / "new").exists()
    files = write_downloads(unknown, 0, tmp_path, ALL)
    assert [name for name, path in files.items() if path] == ["NPZ"]


@pytest.mark.parametrize("wrong", [{"filter_percentage": 200.0}, {"max_points": -1}, {"max_points": float("inf")}])
def test_what_no_control_sets_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"{min(wrong)} is .*; give a"):
        CloudOptions(**wrong)
