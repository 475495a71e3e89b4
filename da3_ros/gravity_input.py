# SPDX-License-Identifier: Apache-2.0
"""The topic `imu`, which says where up is."""

from __future__ import annotations

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu

from da3_core.ros_data.gravity import Gravity
from da3_ros.callbacks import Guard
from da3_ros.qos import OVERRIDABLE

DEPTH = 100


class GravityInput:
    """The subscription, from construction to `close`."""

    def __init__(self, node: Node, gravity: Gravity, guard: Guard, group: MutuallyExclusiveCallbackGroup) -> None:
        self._node = node
        qos = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._subscription = node.create_subscription(
            *(Imu, "imu", guard(gravity.add), qos), callback_group=group, qos_overriding_options=OVERRIDABLE
        )

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
