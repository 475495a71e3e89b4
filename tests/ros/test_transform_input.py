# SPDX-License-Identifier: Apache-2.0
"""Who yields when several nodes join frames to one map: real nodes in one process."""

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import numpy as np
import rclpy
from da3_ros.msg import MapInfo
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from da3_core.ros_data.transform_tree import JoinedByOther, TransformTree
from da3_ros.callbacks import Guard
from da3_ros.transform_input import TransformInput


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def test_of_two_nodes_with_one_map_the_first_by_name_goes_on_and_any_other_publisher_wins(
    context: rclpy.Context,
) -> None:
    executor = SingleThreadedExecutor(context=context)
    nodes: dict[str, Node] = {}
    trees = {name: TransformTree("map", 0.1) for name in ("first", "second")}
    publishers, inputs = {}, []
    for name in ("first", "second", "slam"):
        nodes[name] = rclpy.create_node(name, context=context)
        publishers[name] = nodes[name].create_publisher(TFMessage, "/tf", 10)
        if name in trees:
            nodes[name].create_publisher(MapInfo, f"{name}/map_info", 1)
            inputs.append(TransformInput(nodes[name], [trees[name]], Guard(None)))
        executor.add_node(nodes[name])

    def goes_on(name: str) -> bool:
        try:
            trees[name].map_to_tree("camera", np.eye(4), 0)
        except JoinedByOther:
            return False
        return True

    def publish(sender: str) -> None:
        claim = TransformStamped(child_frame_id=f"of_{sender}")
        claim.header.frame_id, claim.transform.rotation.w = "map", 1.0
        publishers[sender].publish(TFMessage(transforms=[claim]))
        executor.spin_once(timeout_sec=0.05)

    latest = time.monotonic() + 20
    while goes_on("second") and time.monotonic() < latest:
        publish("first")
    assert not goes_on("second")
    for _ in range(10):
        publish("second")
    assert goes_on("first")
    while goes_on("first") and time.monotonic() < latest:
        publish("slam")
    assert not goes_on("first"), "which is no node of this kind, and would not yield"
    for each in inputs:
        each.close()
    for node in nodes.values():
        node.destroy_node()
