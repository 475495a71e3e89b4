# SPDX-License-Identifier: Apache-2.0
"""/tf and /tf_static come in and go to the trees."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo
from tf2_msgs.msg import TFMessage

from da3_core.ros_data.transform_tree import TransformTree
from da3_ros.callbacks import Guard
from da3_ros.rclpy_private import publisher_gid

DEPTH = 100
OWN_TYPE = "da3_ros/msg/MapInfo"  # every node of this kind publishes one, and no other does


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
    """Of the node that sent a message of /tf, and to which this one yields; where rclpy does not tell, of those that
    may have. None for `node` itself, and for nodes of this kind that yield to it."""
    publishers = node.get_publishers_info_by_topic("/tf")
    gid = publisher_gid(info)
    known = [each for each in publishers if gid and bytes(each.endpoint_gid)[: len(gid)] == gid]
    names = sorted({_full_name(each) for each in known or publishers} - {node.get_fully_qualified_name()})
    if names and all(_yields(name, node) for name in names):
        node.get_logger().warning(
            f"{' and '.join(names)} has the same map_frame as this node, whose name comes first, so this one goes on "
            "to publish it on /tf and the other one yields; give one of them another map_frame.",
            throttle_duration_sec=10.0,
        )
        return None
    return None if known and not names else " or ".join(names)


def _yields(name: str, node: Node) -> bool:
    """Whether `name` is a node of this kind that comes after `node`: of two of them, one must go on."""
    if name < node.get_fully_qualified_name():
        return False
    namespace, _, base = name.rpartition("/")
    try:
        topics = node.get_publisher_names_and_types_by_node(base, namespace or "/")
    except NodeNameNonExistentError:  # it has gone
        return False
    return any(OWN_TYPE in types for _, types in topics)


def _full_name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
