# SPDX-License-Identifier: Apache-2.0
"""`ply`, `depth_png`, `tum`, `kitti` and `nerfstudio`, read back by other programs' readers or rules."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import trimesh

from da3_core.export import export
from da3_core.geometry.backprojection import backproject
from da3_core.options import LEAST_CONFIDENT
from da3_core.prediction import Prediction


def test_cloud_is_in_the_world(prediction: Prediction, tmp_path: Path) -> None:
    (path,) = export(prediction, tmp_path, "ply")["ply"]
    cloud = trimesh.load(path)
    assert prediction.conf is not None
    assert prediction.processed_images is not None
    valid = np.isfinite(prediction.depth) & (prediction.depth > 0) & ~prediction.sky
    valid &= prediction.conf >= np.percentile(prediction.conf[valid], LEAST_CONFIDENT)
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


def test_trajectories_have_stamps_and_say_in_which_axes(prediction: Prediction, tmp_path: Path) -> None:
    stamps_ns = np.array([1_700_000_000_000_000_001, 1_700_000_000_250_000_000, 1_700_000_001_000_000_000])
    stamped = dataclasses.replace(prediction, stamps_ns=stamps_ns, world="odom")
    export(stamped, tmp_path, "tum-kitti-ply-nerfstudio-mini_npz")
    lines = (tmp_path / "trajectory.txt").read_text().splitlines()
    assert lines[0] == "# camera (x right, y down, z forward) in odom"
    times = [line.split()[0] for line in lines if not line.startswith("#")]
    assert times == ["1700000000.000000001", "1700000000.250000000", "1700000001.000000000"]
    assert (tmp_path / "kitti/times.txt").read_text().split() == times
    assert b"\ncomment world: odom\n" in (tmp_path / "points.ply").read_bytes()[:200]
    assert json.loads((tmp_path / "nerfstudio/transforms.json").read_text())["world"] == "odom"
    with np.load(tmp_path / "exports/mini_npz/results.npz") as arrays:
        np.testing.assert_allclose(arrays["stamps_s"], stamps_ns / 1e9, rtol=0, atol=1e-6)
        assert arrays["world"].item() == "odom"


def test_kitti_poses_are_rows_of_camera_to_world(prediction: Prediction, tmp_path: Path) -> None:
    export(prediction, tmp_path, "kitti")
    # As the benchmark's own tools read them: twelve numbers a line and nothing else, as many lines as times.
    lines = (tmp_path / "kitti/poses.txt").read_text().splitlines()
    poses = np.array([[float(number) for number in line.split(" ")] for line in lines]).reshape(-1, 3, 4)
    np.testing.assert_allclose(poses[:, :, 3], [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(poses[:, :, :3], np.tile(np.eye(3), (3, 1, 1)))
    assert (tmp_path / "kitti/times.txt").read_text().split() == ["0", "1", "2"]


def test_nerfstudio_sees_every_point_at_the_pixel_of_its_colour(prediction: Prediction, tmp_path: Path) -> None:
    turned = np.array([[0, 0, 1, 0.3], [1, 0, 0, -0.2], [0, 1, 0, 0.1], [0, 0, 0, 1]], np.float32)
    moved = dataclasses.replace(prediction, extrinsics=prediction.extrinsics @ turned)
    export(moved, tmp_path, "nerfstudio", export_kwargs={"nerfstudio": {"max_points": 300}})
    folder = tmp_path / "nerfstudio"
    transforms = json.loads((folder / "transforms.json").read_text())
    cloud = trimesh.load(folder / transforms["ply_file_path"])
    found = np.zeros(len(cloud.vertices), bool)
    for frame in transforms["frames"]:
        image = cv2.cvtColor(cv2.imread(str(folder / frame["file_path"])), cv2.COLOR_BGR2RGB)
        assert image.shape[:2] == (frame["h"], frame["w"])
        # Its cameras look along -z with y up; pixel edges are at integers.
        world_to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))
        x, y, z = world_to_camera[:3, :3] @ cloud.vertices.T + world_to_camera[:3, 3:]
        u = frame["fl_x"] * x / -z + frame["cx"]
        v = -frame["fl_y"] * y / -z + frame["cy"]
        inside = (z < 0) & (u >= 0) & (u < frame["w"]) & (v >= 0) & (v < frame["h"])
        seen = image[v[inside].astype(int), u[inside].astype(int)]
        found[inside] |= (seen == cloud.colors[inside, :3]).all(axis=1)
    assert len(found) == 300
    assert found.all()
