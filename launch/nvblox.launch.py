# SPDX-License-Identifier: Apache-2.0
"""Starts the node with the topics that nvblox expects of its first camera, and nvblox with `nvblox:=true`.

All arguments of da3.launch.py are arguments here, too. Depth must be in metres: take a metric model, or say where the
scale comes from.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetRemap

from da3_ros.parameters import TABLE

NODE = Path(__file__).parent / "da3.launch.py"
TOPICS = {
    "depth/image": "camera_0/depth/image",
    "depth/camera_info": "camera_0/depth/camera_info",
    "image_rect": "camera_0/color/image",
    "camera_info": "camera_0/color/camera_info",
}


def generate_launch_description() -> LaunchDescription:
    """The node, its topics renamed, and nvblox where it is asked for."""
    remaps = [SetRemap(src=f"~/{ours}", dst=theirs) for ours, theirs in TOPICS.items()]
    nvblox = Node(
        package="nvblox_ros",
        executable="nvblox_node",
        name="nvblox_node",
        output="screen",
        parameters=[
            {
                "global_frame": TABLE["map_frame"].default,
                "num_cameras": 1,
                "use_depth": True,
                "use_color": True,
                "use_lidar": False,
                "use_tf_transforms": True,
            }
        ],
        condition=IfCondition(LaunchConfiguration("nvblox")),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("nvblox", default_value="false", description="true starts nvblox_node, too."),
            GroupAction([*remaps, IncludeLaunchDescription(PythonLaunchDescriptionSource(str(NODE)))]),
            nvblox,
        ]
    )
