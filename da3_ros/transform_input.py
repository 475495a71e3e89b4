# SPDX-License-Identifier: Apache-2.0
"""/tf and /tf_static come in and go to the trees."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo
from tf2_msgs.msg import TFMessage

from da3_core.ros_data.transform_tree import TransformTree
from da3_ros.callbacks import Guard
from da3_ros.rclpy_private import publisher_gid

DEPTH = 100


class TransformInput:
    """The two subscriptions, from construction to `close`."""

    def __init__(self, node: Node, trees: Sequence[TransformTree], guard: Guard) -> None:
        self._node = node
        group = MutuallyExclusiveCallbackGroup()
        latched = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(
                TFMessage,
                topic,
                guard(partial(_take_in, node, trees, static)),
                qos,
                callback_group=group,
            )
            for topic, qos, static in (("/tf", QoSProfile(depth=DEPTH), False), ("/tf_static", latched, True))
        ]

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _take_in(node: Node, trees: Sequence[TransformTree], static: bool, message: TFMessage, info: Any) -> None:
    for tree in trees:
        tree.add(message.transforms, static, partial(_publisher_name, node, info))


def _publisher_name(node: Node, info: Any) -> str | None:
    """Of the node that sent a message of /tf, None for `node`; where rclpy does not tell, of those that may have."""
    publishers = node.get_publishers_info_by_topic("/tf")
    gid = publisher_gid(info)
    own = node.get_fully_qualified_name()
    for each in publishers:
        if gid and bytes(each.endpoint_gid)[: len(gid)] == gid:
            return None if _full_name(each) == own else _full_name(each)
    return " or ".join(sorted({name for each in publishers if (name := _full_name(each)) != own}))


def _full_name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
