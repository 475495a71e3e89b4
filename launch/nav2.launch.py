# SPDX-License-Identifier: Apache-2.0
"""Starts the node with the topics that Nav2 expects: `scan` (LaserScan) and `points` (PointCloud2), of a rig below the
names of its cameras.

config/nav2_local_costmap.yaml has a local costmap that reads them. All arguments of da3.launch.py are arguments here,
too; `base_frame` and `scan.*` say what counts as an obstacle.
"""

from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import SetRemap

from da3_ros.parameters import cameras_of

NODE = Path(__file__).parent / "da3.launch.py"
TOPICS = ("scan", "points")


def generate_launch_description() -> LaunchDescription:
    """The node, its topics renamed."""
    return LaunchDescription([OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[Action]:
    cameras = [f"{name}/" for name in cameras_of(context.launch_configurations.get("cameras", ""))] or [""]
    remaps = [SetRemap(src=f"~/{camera}{topic}", dst=f"{camera}{topic}") for camera in cameras for topic in TOPICS]
    return [GroupAction([*remaps, IncludeLaunchDescription(PythonLaunchDescriptionSource(str(NODE)))])]
