# SPDX-License-Identifier: Apache-2.0
"""Depth that another sensor measures comes in, and is looked up by the time of an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.reference_depth import cloud_points, projected, sparse_depth
from da3_core.ros_data.transform_tree import TransformUnknown
from da3_core.stream.frame import Frame
from da3_ros.callbacks import Guard
from da3_ros.qos import OVERRIDABLE
from da3_ros.settings import Settings

KEPT = 20  # messages
TYPES: dict[str, type] = {"image": Image, "points": PointCloud2}


class ReferenceInput:
    """The subscription of `reference_depth`, from construction to `close`.

    Args:
        warn: told why a message says nothing about an image, again and again.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        guard: Guard,
        places: CameraPlaces,
        warn: Callable[[str], object],
        group: MutuallyExclusiveCallbackGroup,
    ) -> None:
        self._node, self._places, self._warn = node, places, warn
        self._slop_ns = round(settings.scale.reference_slop_s * 1e9)
        self._kept: deque[Any] = deque(maxlen=KEPT)
        self._subscription = node.create_subscription(
            TYPES[settings.scale.reference_type],
            "reference_depth",
            guard(self._take_in),
            QoSProfile(depth=KEPT, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=group,
            qos_overriding_options=OVERRIDABLE,
        )

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)

    def _take_in(self, message: Any) -> None:
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
            if isinstance(message, Image):
                return sparse_depth(message, size_hw) if of.lstrip("/") == frame.camera.lstrip("/") else None
            if frame.intrinsics is None:
                self._warn("A reference cloud says nothing about images without CameraInfo.")
                return None
            to_camera = self._places.between(of, stamp, frame.camera, frame.stamp_ns)
            return projected(cloud_points(message), to_camera, frame.intrinsics, size_hw)
        except (RefusedMessage, TransformUnknown) as reason:
            self._warn(f"The reference depth is not used: {reason}")
            return None
