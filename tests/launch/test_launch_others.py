# SPDX-License-Identifier: Apache-2.0
"""The launch files for Nav2 and nvblox in the real launch system: their topics arrive, with the types these expect."""

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
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

FOLDER = Path(__file__).parents[2] / "launch"
ARGUMENTS = {
    "image": "/camera/image_raw",
    "model": "untrained:da3-small",
    "device": "cpu",
    "process_res": "70",
    "window.size": "1",
    "base_frame": "camera_link",  # of the synthetic camera
}


def started(name: str) -> LaunchDescription:
    camera = Node(package="da3_ros", executable="synthetic_camera")
    source = PythonLaunchDescriptionSource(str(FOLDER / f"{name}.launch.py"))
    return LaunchDescription([camera, IncludeLaunchDescription(source, launch_arguments=list(ARGUMENTS.items()))])


@launch_pytest.fixture
def nav2() -> LaunchDescription:
    return started("nav2")


@launch_pytest.fixture
def nvblox() -> LaunchDescription:
    return started("nvblox")


def wait_for(topics: dict[str, type]) -> dict[str, object]:
    """The first message of every topic."""
    rclpy.init()
    try:
        listener, received = rclpy.create_node("listener"), {}
        executor = SingleThreadedExecutor()
        executor.add_node(listener)
        for topic, kind in topics.items():
            listener.create_subscription(kind, topic, lambda m, topic=topic: received.setdefault(topic, m), 10)
        end = time.monotonic() + 120
        while len(received) < len(topics) and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.5)
        assert set(received) == set(topics), "not within two minutes"
        return received
    finally:
        rclpy.try_shutdown()


@pytest.mark.launch(fixture=nav2)
def test_nav2_finds_a_scan_in_the_frame_of_the_robot_and_points():
    received = wait_for({"/scan": LaserScan, "/points": PointCloud2})
    assert received["/scan"].header.frame_id == "camera_link"
    assert len(received["/scan"].ranges) > 20


@pytest.mark.launch(fixture=nvblox)
def test_nvblox_finds_depth_and_colour_of_its_first_camera():
    names = {
        "depth/image": Image,
        "depth/camera_info": CameraInfo,
        "color/image": Image,
        "color/camera_info": CameraInfo,
    }
    received = wait_for({f"/camera_0/{name}": kind for name, kind in names.items()})
    assert received["/camera_0/depth/image"].encoding == "32FC1"
    assert {each.width for each in received.values()} == {70}
