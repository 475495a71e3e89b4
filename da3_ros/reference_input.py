# SPDX-License-Identifier: Apache-2.0
"""The topic `reference_depth`, on which another sensor's depth comes in."""

from __future__ import annotations

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from da3_core.ros_data.reference_depth import KEPT, ReferenceDepths
from da3_ros.callbacks import Guard
from da3_ros.qos import OVERRIDABLE

TYPES: dict[str, type] = {"image": Image, "points": PointCloud2}


class ReferenceInput:
    """The subscription, from construction to `close`.

    Args:
        kind: of `TYPES`.
    """

    def __init__(
        self, node: Node, kind: str, depths: ReferenceDepths, guard: Guard, group: MutuallyExclusiveCallbackGroup
    ) -> None:
        self._node = node
        self._subscription = node.create_subscription(
            TYPES[kind],
            "reference_depth",
            guard(depths.add),
            QoSProfile(depth=KEPT, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=group,
            qos_overriding_options=OVERRIDABLE,
        )

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
