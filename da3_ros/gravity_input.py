# SPDX-License-Identifier: Apache-2.0
"""Where up is in a camera: by an Imu, or by the odometry frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu

from da3_core.geometry.quaternions import rotation_from_quaternion
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.transform_tree import TransformUnknown
from da3_ros.callbacks import Guard
from da3_ros.qos import OVERRIDABLE

DEPTH = 100
SMOOTHING = 0.05  # share of the newest of accelerations, which are those of motion too


class GravityInput:
    """The subscription of `imu`, if `up` is imu, from construction to `close`.

    Args:
        warn: told why up is unknown, again and again.
    """

    def __init__(
        self,
        node: Node,
        up: str,
        guard: Guard,
        places: CameraPlaces,
        warn: Callable[[str], object],
        group: MutuallyExclusiveCallbackGroup,
    ) -> None:
        self._node, self._places, self._warn = node, places, warn
        self._newest: Imu | None = None
        self._up: np.ndarray | None = None  # in the frame of `_newest`
        self._subscription = None
        if up == "imu":
            qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._subscription = node.create_subscription(
                *(Imu, "imu", guard(self._take_in), qos), callback_group=group, qos_overriding_options=OVERRIDABLE
            )

    def close(self) -> None:
        if self._subscription:
            self._node.destroy_subscription(self._subscription)

    def _take_in(self, message: Imu) -> None:
        if (up := up_of(message)) is None:
            return
        is_known = message.orientation_covariance[0] >= 0
        smoothed = up if self._up is None or is_known else (1 - SMOOTHING) * self._up + SMOOTHING * up
        self._newest, self._up = message, smoothed

    def of(self, camera_frame: str, stamp: int) -> np.ndarray | None:
        """`(3,)` in the camera's optical axes; None where it is not known."""
        try:
            if self._subscription is None:
                return self._places.up(camera_frame, stamp)
            if self._newest is None or self._up is None:
                self._warn("Nothing has come on imu yet, so that the map is as level as the camera.")
                return None
            header = self._newest.header
            to_camera = self._places.between(header.frame_id, stamp_ns(header.stamp), camera_frame, stamp)
            return np.asarray(to_camera[:3, :3] @ self._up)
        except TransformUnknown as reason:
            self._warn(f"Up is unknown, so that the map is as level as the camera: {reason}")
            return None


def up_of(message: Imu) -> np.ndarray | None:
    """`(3,)` in the frame of an Imu: by its orientation where it has one, else by what it feels: at rest that is up."""
    q, a = message.orientation, message.linear_acceleration
    quaternion, felt = np.array([q.x, q.y, q.z, q.w]), np.array([a.x, a.y, a.z])
    if message.orientation_covariance[0] >= 0 and 0.5 < np.linalg.norm(quaternion) < 2:
        return np.asarray(rotation_from_quaternion(quaternion)[2])
    length = float(np.linalg.norm(felt))
    return felt / length if 1.0 < length < np.inf else None
