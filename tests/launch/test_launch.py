# SPDX-License-Identifier: Apache-2.0
"""The launch file in the real launch system: its arguments reach the node, and depth arrives."""

import time
from pathlib import Path

import pytest

pytest.importorskip("launch_pytest", reason="needs the ROS 2 launch system")
pytest.importorskip("launch_ros", reason="needs the ROS 2 launch system")

import launch_pytest
import rclpy
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

LAUNCH_FILE = Path(__file__).parents[2] / "launch/da3.launch.py"
ARGUMENTS = {
    "image": "/camera/image_raw",
    "model": "untrained:da3-small",
    "device": "cpu",
    "process_res": "70",
    "window.size": "2",
    "tf.mode": "none",
}


@launch_pytest.fixture
def graph() -> LaunchDescription:
    camera = Node(package="da3_ros", executable="synthetic_camera")
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH_FILE)), launch_arguments=list(ARGUMENTS.items())
    )
    return LaunchDescription([camera, node])


@pytest.mark.launch(fixture=graph)
def test_depth_arrives_with_the_frame_of_the_camera():
    rclpy.init()
    try:
        listener = rclpy.create_node("listener")
        executor = SingleThreadedExecutor()
        executor.add_node(listener)
        received: list[Image] = []
        listener.create_subscription(Image, "/da3/depth/image", received.append, 10)
        end = time.monotonic() + 120
        while not received and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.5)
        assert received, "no depth within two minutes"
        assert received[0].encoding == "32FC1"
        assert received[0].width == 70
        client = listener.create_client(GetParameters, "/da3/get_parameters")
        assert client.wait_for_service(10)
        future = client.call_async(GetParameters.Request(names=["window.size", "process_res", "tf.mode"]))
        executor.spin_until_future_complete(future, timeout_sec=10)
        size, resolution, mode = future.result().values
        assert (size.integer_value, resolution.integer_value, mode.string_value) == (2, 70, "none")
    finally:
        rclpy.try_shutdown()
