# SPDX-License-Identifier: Apache-2.0
"""Clouds against rays through pixels, and which pixels become points."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs ROS 2 messages")

from sensor_msgs.msg import PointCloud2

from da3_core.options import PointOptions
from da3_core.ros_data import values
from da3_core.ros_data.point_cloud import point_cloud
from da3_ros.messages import packed

HEADER = values.header(1_700_000_000_123_456_789, "camera_optical")


def depth_cloud(*args: Any, **options: Any) -> PointCloud2:
    return packed(point_cloud(HEADER, *args, **options))


def read_cloud(message: PointCloud2) -> np.ndarray:
    """`(P,)`, or `(H, W)` when organised, by field name, as the fields of the message say."""
    dtype = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": ["<u4" if field.name == "rgb" else "<f4" for field in message.fields],
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    assert message.row_step == message.width * message.point_step
    points = np.frombuffer(message.data, dtype).reshape(message.height, message.width)
    return points if message.height > 1 else points[0]


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    depth = rng.uniform(2.0, 2.01, (6, 8)).astype(np.float32)
    rgb = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return depth, rgb, rng.uniform(1, 3, (6, 8)).astype(np.float32)


def pixels_of(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """`(P, 2)` column and row of the pixels that points project into."""
    xyz = np.stack([points["x"], points["y"], points["z"]], axis=-1).reshape(-1, 3)
    uvw = xyz @ intrinsics.T
    return uvw[:, :2] / uvw[:, 2:]


def pixel_centres(stride: int = 1) -> np.ndarray:
    rows, columns = np.mgrid[:6:stride, :8:stride]
    return np.stack([columns, rows], -1).reshape(-1, 2) + 0.5


ALL_PIXELS = PointOptions(confidence_percentile=0.0, edge_threshold=0.0)
CLOUD_INTRINSICS = np.array([[7.0, 0.2, 4.1], [0, 6.5, 2.9], [0, 0, 1]])


def test_points_lie_on_the_rays_through_pixel_centres():
    depth, rgb, confidence = scene()
    message = depth_cloud(depth, CLOUD_INTRINSICS, rgb=rgb, confidence=confidence, keep=ALL_PIXELS)
    points = read_cloud(message)
    assert (message.header.stamp.nanosec, message.height, message.width, message.is_dense) == (123_456_789, 1, 48, True)
    assert [field.name for field in message.fields] == ["x", "y", "z", "rgb", "confidence"]
    rows, columns = np.mgrid[:6, :8]
    assert np.allclose(
        pixels_of(points, CLOUD_INTRINSICS), np.stack([columns, rows], -1).reshape(-1, 2) + 0.5, atol=1e-5
    )
    assert np.array_equal(points["z"], depth.ravel())
    assert np.array_equal(points["confidence"], confidence.ravel())
    red, green, blue = (rgb.reshape(-1, 3)[:, i].astype(np.uint32) for i in range(3))
    assert np.array_equal(points["rgb"], red << 16 | green << 8 | blue)
    assert not np.isnan(points["rgb"].view(np.float32)).any()


def test_stride_takes_every_nth_row_and_column():
    depth, rgb, _ = scene()
    points = read_cloud(depth_cloud(depth, CLOUD_INTRINSICS, rgb=rgb, keep=replace(ALL_PIXELS, stride=3)))
    rows, columns = np.mgrid[:6:3, :8:3]
    assert np.allclose(
        pixels_of(points, CLOUD_INTRINSICS), np.stack([columns, rows], -1).reshape(-1, 2) + 0.5, atol=1e-5
    )
    assert np.array_equal(points["z"], depth[::3, ::3].ravel())


def test_an_organized_cloud_keeps_rows_and_columns():
    depth, rgb, confidence = scene()
    depth[2, 3], depth[4, 5], depth[0, 0] = np.nan, np.inf, 0.0
    channels = {"rgb": rgb, "confidence": confidence}
    message = depth_cloud(depth, CLOUD_INTRINSICS, **channels, keep=replace(ALL_PIXELS, organized=True))
    points = read_cloud(message)
    assert (message.height, message.width, message.is_dense) == (6, 8, False)
    holes = np.zeros((6, 8), bool)
    holes[2, 3] = holes[4, 5] = holes[0, 0] = True
    for axis in "xyz":
        assert np.array_equal(np.isnan(points[axis]), holes)
    packed = read_cloud(depth_cloud(depth, CLOUD_INTRINSICS, rgb=rgb, confidence=confidence, keep=ALL_PIXELS))
    assert np.array_equal(points[~holes], packed)


@pytest.mark.parametrize("stride", [1, 2])
def test_large_images_have_no_seams(stride):
    """Larger than the blocks that they are packed in, with holes everywhere: against the formula, pixel by pixel."""
    rng = np.random.default_rng(5)
    depth = rng.uniform(1, 9, (211, 307)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.3] = np.nan
    confidence = rng.uniform(1, 3, depth.shape).astype(np.float32)
    intrinsics = np.array([[200.0, 0, 150.0], [0, 210.0, 100.0], [0, 0, 1]])
    keep = replace(ALL_PIXELS, stride=stride)
    read = [
        read_cloud(depth_cloud(depth, intrinsics, confidence=confidence, keep=each))
        for each in (keep, replace(keep, organized=True))
    ]
    rows, columns = np.mgrid[:211:stride, :307:stride]
    z = depth[::stride, ::stride]
    expected = np.stack([(columns + 0.5 - 150) / 200 * z, (rows + 0.5 - 100) / 210 * z, z], -1)
    valid = np.isfinite(z)
    for points, truth, conf in zip(
        read,
        (expected[valid], expected),
        (confidence[::stride, ::stride][valid], confidence[::stride, ::stride]),
        strict=True,
    ):
        xyz = np.stack([points["x"], points["y"], points["z"]], -1)
        assert np.allclose(xyz, truth, atol=1e-5, equal_nan=True)
        assert np.array_equal(points["confidence"], conf)


def kept(depth: list[float] | np.ndarray, confidence: np.ndarray | None = None, **options: float) -> list[float]:
    depth = np.atleast_2d(np.array(depth, np.float32))
    cloud = depth_cloud(depth, np.eye(3), confidence=confidence, keep=replace(ALL_PIXELS, **options))
    return read_cloud(cloud)["z"].tolist()


def test_depth_limits():
    assert kept([0.5, 1.0, 2.0, 4.0, 4.5, np.nan], min_depth_m=1.0, max_depth_m=4.0) == [1.0, 2.0, 4.0]


def test_confidence_percentile_counts_valid_pixels_only():
    depth = np.array([[np.nan] * 10, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    confidence = np.array([[1.0] * 10, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
    assert kept(depth, confidence, confidence_percentile=30) == [4, 5, 6, 7, 8, 9, 10]
    assert kept(depth * np.nan, confidence, confidence_percentile=30) == []


def test_edges_are_dropped_on_both_sides_and_next_to_the_sky():
    assert kept([1.0, 1.04, 1.08, 2.0, 2.05, np.nan, 3.0, np.inf], edge_threshold=0.05) == pytest.approx(
        [1.0, 1.04, 2.05]
    )
    column = np.array([[1.0, 5.0, 5.1]]).T
    assert kept(column, edge_threshold=0.05) == pytest.approx([5.1])


def test_agrees_with_sensor_msgs_py():
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2")
    depth, rgb, confidence = scene()
    message = depth_cloud(depth, CLOUD_INTRINSICS, rgb=rgb, confidence=confidence, keep=ALL_PIXELS)
    theirs, ours = point_cloud2.read_points(message), read_cloud(message)
    for name in ("x", "y", "z", "confidence"):
        assert np.array_equal(theirs[name], ours[name])
