# SPDX-License-Identifier: Apache-2.0
"""Starts the node with the topics that nvblox expects of its cameras, and nvblox with `nvblox:=true`.

All arguments of da3.launch.py are arguments here, too. Depth must be in metres: take a metric model, or say where the
scale comes from.
"""

from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetRemap

from da3_ros.parameters import TABLE, cameras_of

NODE = Path(__file__).parent / "da3.launch.py"
TOPICS = {
    "depth/image": "depth/image",
    "depth/camera_info": "depth/camera_info",
    "image_rect": "color/image",
    "camera_info": "color/camera_info",
}


def generate_launch_description() -> LaunchDescription:
    """The node, its topics renamed, and nvblox where it is asked for."""
    nvblox = "true starts nvblox_node, too."
    return LaunchDescription(
        [
            DeclareLaunchArgument("nvblox", default_value="false", description=nvblox),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[Action]:
    cameras = [f"{name}/" for name in cameras_of(context.launch_configurations.get("cameras", ""))] or [""]
    remaps = [
        SetRemap(src=f"~/{camera}{ours}", dst=f"camera_{number}/{theirs}")
        for number, camera in enumerate(cameras)
        for ours, theirs in TOPICS.items()
    ]
    nvblox = Node(
        package="nvblox_ros",
        executable="nvblox_node",
        name="nvblox_node",
        output="screen",
        parameters=[
            {
                "global_frame": TABLE["map_frame"].default,
                "num_cameras": len(cameras),
                "use_depth": True,
                "use_color": True,
                "use_lidar": False,
                "use_tf_transforms": True,
            }
        ],
        condition=IfCondition(LaunchConfiguration("nvblox")),
    )
    return [GroupAction([*remaps, IncludeLaunchDescription(PythonLaunchDescriptionSource(str(NODE)))]), nvblox]
