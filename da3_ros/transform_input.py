# SPDX-License-Identifier: Apache-2.0
"""/tf and /tf_static come in and go to the tree."""

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from da3_core.ros_data.transform_tree import TransformTree

DEPTH = 100


class TransformInput:
    """The two subscriptions, from construction to `close`."""

    def __init__(self, node: Node, tree: TransformTree) -> None:
        self._node = node
        group = MutuallyExclusiveCallbackGroup()
        latched = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(
                TFMessage,
                topic,
                lambda message, static=static: tree.add(message.transforms, static),
                qos,
                callback_group=group,
            )
            for topic, qos, static in (("/tf", QoSProfile(depth=DEPTH), False), ("/tf_static", latched, True))
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
