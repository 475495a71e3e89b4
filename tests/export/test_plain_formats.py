# SPDX-License-Identifier: Apache-2.0
"""`ply`, `depth_png` and `tum`, read back by other programs' readers."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import trimesh

from da3_core.export import export
from da3_core.geometry.backprojection import backproject
from da3_core.prediction import Prediction


def test_cloud_is_in_the_world(prediction: Prediction, tmp_path: Path) -> None:
    (path,) = export(prediction, tmp_path, "ply")["ply"]
    cloud = trimesh.load(path)
    assert prediction.conf is not None
    assert prediction.processed_images is not None
    valid = np.isfinite(prediction.depth) & (prediction.depth > 0) & ~prediction.sky
    valid &= prediction.conf >= np.percentile(prediction.conf, 40)
    points = backproject(np.nan_to_num(prediction.depth), prediction.intrinsics, prediction.extrinsics)
    np.testing.assert_array_equal(cloud.vertices, points[valid])
    np.testing.assert_array_equal(cloud.colors[:, :3], prediction.processed_images[valid])
    export(prediction, tmp_path, "ply", num_max_points=17)
    assert len(trimesh.load(path).vertices) == 17


def test_depth_in_millimetres(prediction: Prediction, tmp_path: Path) -> None:
    depth = prediction.depth.copy()
    depth[1, 0, :4] = (65.535, 65.536, 0.0004, 1.2345)
    files = export(dataclasses.replace(prediction, depth=depth), tmp_path, "depth_png")["depth_png"]
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files]
    assert [image.dtype for image in images] == [np.uint16] * 3
    assert images[1][0, :4].tolist() == [65535, 0, 0, 1234]
    assert images[0][3, 4:9].tolist() == [0] * 5
    np.testing.assert_allclose(images[2] / 1000, depth[2], atol=0.00051)


def test_trajectory_is_camera_to_world(prediction: Prediction, tmp_path: Path) -> None:
    extrinsics = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    extrinsics[1, :3] = [[0, 0, 1, -3], [0, 1, 0, 0], [-1, 0, 0, 4]]  # at (4, 0, 3), turned about y by -90 degrees
    (path,) = export(dataclasses.replace(prediction, extrinsics=extrinsics), tmp_path, "tum")["tum"]
    rows = np.loadtxt(path)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(rows[0], [0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(rows[1], [1, 4, 0, 3, 0, -half, 0, half], atol=1e-8)
