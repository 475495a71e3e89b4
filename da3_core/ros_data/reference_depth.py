# SPDX-License-Identifier: Apache-2.0
"""Depth that somebody else measures, at a few pixels of an image: sparse depth images, and points of a LiDAR."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.images import DEPTH_ENCODINGS, RefusedMessage
from da3_core.ros_data.transform_tree import TransformUnknown
from da3_core.stream.frame import Frame

MOST_POINTS = 20_000  # of one message; more say nothing more about a scale
KEPT = 20  # messages
FLOATS = {7: "f4", 8: "f8"}  # of sensor_msgs/PointField


class ReferenceDepths:
    """The newest messages of a sensor, which are looked up by the time of an image. Live and in bags.

    Args:
        slop_s: how far in time from an image they may be.
        warn: told why a message says nothing about an image, again and again.
    """

    def __init__(self, places: CameraPlaces, slop_s: float, warn: Callable[[str], object]) -> None:
        self._places, self._warn = places, warn
        self._slop_ns = round(slop_s * 1e9)
        self._kept: deque[Any] = deque(maxlen=KEPT)

    def add(self, message: Any) -> None:
        """Take in an `Image` or a `PointCloud2`."""
        self._kept.append(message)

    def nearest(self, stamp: int) -> Any:
        """The message that is nearest in time to an image; None where it is too far, or there is none."""
        distances = {abs(stamp_ns(each.header.stamp) - stamp): each for each in self._kept}
        return distances[min(distances)] if distances and min(distances) <= self._slop_ns else None

    def is_waited_for(self, stamp: int) -> bool:
        """Whether there is no message near an image yet, and one may still come."""
        return self.nearest(stamp) is None and not any(stamp_ns(each.header.stamp) > stamp for each in self._kept)

    def depth_of(self, message: Any, frame: Frame) -> np.ndarray | None:
        """What a message says about an image, see `Frame.reference_depth`; None where that is nothing."""
        size_hw = frame.image.shape[0], frame.image.shape[1]
        of, stamp = message.header.frame_id, stamp_ns(message.header.stamp)
        try:
            if hasattr(message, "encoding"):
                return sparse_depth(message, size_hw) if of.lstrip("/") == frame.camera.lstrip("/") else None
            if frame.intrinsics is None:
                self._warn("A reference cloud says nothing about images without CameraInfo.")
                return None
            to_camera = self._places.between(of, stamp, frame.camera, frame.stamp_ns)
            return projected(cloud_points(message), to_camera, frame.intrinsics, size_hw)
        except (RefusedMessage, TransformUnknown) as reason:
            self._warn(f"The reference depth is not used: {reason}")
            return None


def sparse_depth(message: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """`(M, 3)` float64 of a depth image that is aligned with an image of `size_hw`: x, y in its pixels, edges at
    integers, and metres along the optical axis.

    Raises:
        RefusedMessage: no depth image, or truncated.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise RefusedMessage(
            "reference", f"The reference depth is {message.encoding!r}; give {' or '.join(DEPTH_ENCODINGS)}."
        )
    kind = np.dtype("u2" if message.encoding == "16UC1" else "f4").newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = message.height, message.width, message.step
    if not 0 < width * kind.itemsize <= step or len(message.data) < height * step:
        raise RefusedMessage("reference", f"The reference depth of {width}x{height} pixels is truncated.")
    rows = np.frombuffer(message.data, np.uint8, count=height * step).reshape(height, step)
    depth = np.ascontiguousarray(rows[:, : width * kind.itemsize]).view(kind).astype(np.float64)
    depth_m = depth / 1000 if message.encoding == "16UC1" else depth
    y, x = np.nonzero(np.isfinite(depth_m) & (depth_m > 0))
    pixels = (np.stack([x, y], axis=1) + 0.5) * np.array([size_hw[1] / width, size_hw[0] / height])
    return _thinned(np.column_stack([pixels, depth_m[y, x]]))


def cloud_points(message: Any) -> np.ndarray:
    """`(M, 3)` float64 finite points of a PointCloud2, in its frame.

    Raises:
        RefusedMessage: x, y and z are not floats of one type, or it is truncated.
    """
    fields = {field.name: field for field in message.fields if field.name in ("x", "y", "z")}
    kinds = {FLOATS.get(field.datatype) for field in fields.values()}
    count, step = message.width * message.height, message.point_step
    if len(fields) < 3 or len(kinds) > 1 or None in kinds or message.row_step != message.width * step:
        raise RefusedMessage("reference", "The reference cloud needs x, y and z of one float type, in rows unpadded.")
    kind = np.dtype(f"{'>' if message.is_bigendian else '<'}{kinds.pop()}")
    if len(message.data) < count * step or any(field.offset + kind.itemsize > step for field in fields.values()):
        raise RefusedMessage("reference", f"The reference cloud of {count} points is truncated.")
    layout = {"names": ["x", "y", "z"], "formats": [kind] * 3, "offsets": [fields[name].offset for name in "xyz"]}
    row: Any = np.dtype({**layout, "itemsize": step})  # type: ignore[call-overload]
    packed: Any = np.frombuffer(message.data, row, count=count)
    points = np.stack([packed[name] for name in "xyz"], axis=1).astype(np.float64)
    return _thinned(np.asarray(points[np.isfinite(points).all(axis=1)]))


def projected(
    points: np.ndarray, to_camera: np.ndarray, intrinsics: np.ndarray, size_hw: tuple[int, int]
) -> np.ndarray:
    """`(M, 3)` as of `sparse_depth`: those of the points that a pinhole camera of an image of `size_hw` sees.

    Args:
        points: `(P, 3)`.
        to_camera: `(4, 4)` from their frame to the camera's optical frame, at its time.
        intrinsics: `(3, 3)`.
    """
    in_camera = points @ to_camera[:3, :3].T + to_camera[:3, 3]
    in_camera = in_camera[in_camera[:, 2] > 0]
    pixels = (in_camera @ intrinsics.T)[:, :2] / in_camera[:, 2:]
    inside = ((pixels >= 0) & (pixels < np.array([size_hw[1], size_hw[0]]))).all(axis=1)
    return np.asarray(np.column_stack([pixels, in_camera[:, 2]])[inside])


def _thinned(rows: np.ndarray) -> np.ndarray:
    """Evenly, so that no more than `MOST_POINTS` are left."""
    return rows[:: max(1, -(-len(rows) // MOST_POINTS))]
