# SPDX-License-Identifier: Apache-2.0
"""Starts the node with the topics that Nav2 expects: `scan` (LaserScan) and `points` (PointCloud2).

config/nav2_local_costmap.yaml has a local costmap that reads them. All arguments of da3.launch.py are arguments here,
too; `base_frame` and `scan.*` say what counts as an obstacle.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import SetRemap

NODE = Path(__file__).parent / "da3.launch.py"
TOPICS = {"scan": "scan", "points": "points"}


def generate_launch_description() -> LaunchDescription:
    """The node, its topics renamed."""
    remaps = [SetRemap(src=f"~/{ours}", dst=theirs) for ours, theirs in TOPICS.items()]
    return LaunchDescription(
        [GroupAction([*remaps, IncludeLaunchDescription(PythonLaunchDescriptionSource(str(NODE)))])]
    )
