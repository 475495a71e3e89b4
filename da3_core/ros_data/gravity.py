# SPDX-License-Identifier: Apache-2.0
"""Where up is in a camera: by an Imu, or by the odometry frame. Live and in bags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from da3_core.geometry.quaternions import rotation_from_quaternion
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.transform_tree import TransformUnknown

SMOOTHING = 0.05  # share of the newest of accelerations, which are those of motion too
KEPT = 500  # messages, of which the one nearest in time to an image counts


class Gravity:
    """What an Imu, or the odometry frame, says of up.

    Args:
        by_imu: else by the odometry frame.
        warn: told why up is unknown, again and again.
    """

    def __init__(self, by_imu: bool, places: CameraPlaces, warn: Callable[[str], object]) -> None:
        self._by_imu, self._places, self._warn = by_imu, places, warn
        self._kept: deque[tuple[int, str, np.ndarray]] = deque(maxlen=KEPT)  # stamp, frame, and up in it

    def add(self, message: Any) -> None:
        """Take in an `Imu`."""
        up = up_of(message)
        if up is None:
            return
        is_known = message.orientation_covariance[0] >= 0
        if self._kept and not is_known:
            up = (1 - SMOOTHING) * self._kept[-1][2] + SMOOTHING * up
        self._kept.append((stamp_ns(message.header.stamp), message.header.frame_id, up))

    def of(self, camera_frame: str, stamp: int) -> np.ndarray | None:
        """`(3,)` in the camera's optical axes; None where it is not known."""
        try:
            if not self._by_imu:
                return self._places.up(camera_frame, stamp)
            if not self._kept:
                self._warn("Nothing has come on imu yet, so that the map is as level as the camera.")
                return None
            at, frame, up = min(tuple(self._kept), key=lambda each: abs(each[0] - stamp))
            return np.asarray(self._places.between(frame, at, camera_frame, stamp)[:3, :3] @ up)
        except TransformUnknown as reason:
            self._warn(f"Up is unknown, so that the map is as level as the camera: {reason}")
            return None


def up_of(message: Any) -> np.ndarray | None:
    """`(3,)` in the frame of an Imu: by its orientation where it has one, else by what it feels: at rest that is up."""
    q, a = message.orientation, message.linear_acceleration
    quaternion, felt = np.array([q.x, q.y, q.z, q.w]), np.array([a.x, a.y, a.z])
    if message.orientation_covariance[0] >= 0 and 0.5 < np.linalg.norm(quaternion) < 2:
        return np.asarray(rotation_from_quaternion(quaternion)[2])
    length = float(np.linalg.norm(felt))
    return felt / length if 1.0 < length < np.inf else None
