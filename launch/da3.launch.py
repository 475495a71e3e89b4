# SPDX-License-Identifier: Apache-2.0
"""Starts the node, and RViz with `rviz:=true`. `ros2 launch da3_ros da3.launch.py -s` lists every argument.

Every parameter of the node is an argument of the same name; it overrides the parameter file only when it is given.
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from da3_core.errors import InputError
from da3_ros.parameters import TABLE, cameras_of, frame_in_namespace

CONFIG = Path(__file__).parents[1] / "config"
NOT_GIVEN = ""
CAMERA = "{camera}"
DDS_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # from Kilted on, before
BEFORE_KILTED = ("humble", "iron", "jazzy")

ARGUMENTS = {
    "image": (
        "image",
        "Topic of the images; with image_transport compressed, of its images in <image>/compressed; of a rig (cameras) "
        "with {camera} for their names, such as /rig/{camera}/image_raw.",
    ),
    "camera_info": (NOT_GIVEN, "Topic of the calibration; when not given, camera_info beside the image topic."),
    "namespace": (NOT_GIVEN, "Namespace of the node da3 and of its topics."),
    "params_file": (str(CONFIG / "da3.yaml"), "YAML file of parameters."),
    "use_sim_time": (NOT_GIVEN, "true takes the time from /clock, for bags and simulators."),
    "rviz": ("false", "true starts RViz and shows colour, depth, cloud, path and frames."),
    "dds_profile": (
        "auto",
        "Fast DDS profile: auto takes the shipped one, which gives images enough shared memory, unless the environment "
        "names one; none leaves Fast DDS alone; or the path of a profile.",
    ),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, and what they start."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    parameters = [
        DeclareLaunchArgument(
            line.name,
            default_value=NOT_GIVEN,
            description=f"{line.description} Allowed: {line.limits}. When not given: params_file, else {line.default}.",
        )
        for line in TABLE.values()
    ]
    return LaunchDescription([*arguments, *parameters, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[Action]:
    arguments = context.launch_configurations
    overrides = {name: line.parsed(arguments[name]) for name, line in TABLE.items() if arguments[name] != NOT_GIVEN}
    if arguments["use_sim_time"] != NOT_GIVEN:
        overrides["use_sim_time"] = _is_true(arguments, "use_sim_time")
    node = Node(
        package="da3_ros",
        executable="da3_node",
        name="da3",
        namespace=arguments["namespace"],
        output="screen",
        parameters=[arguments["params_file"], *_typed(overrides)],
        remappings=_remappings(arguments["image"], arguments["camera_info"], cameras_of(arguments.get("cameras", ""))),
    )
    map_frame = frame_in_namespace(str(overrides.get("map_frame", TABLE["map_frame"].default)), arguments["namespace"])
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=arguments["namespace"],
        arguments=["-d", str(CONFIG / "da3.rviz"), "-f", map_frame],
        parameters=_typed({name: overrides[name] for name in ("use_sim_time",) if name in overrides}),
    )
    with_rviz = _is_true(arguments, "rviz")
    if with_rviz:
        _check_rviz()  # before anything starts: launch would leave the node behind
    return [*_dds_profile(arguments["dds_profile"]), node, *([rviz] if with_rviz else [])]


def _check_rviz() -> None:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise InputError(
            "rviz is true, but RViz is not installed: apt install ros-$ROS_DISTRO-rviz2, or leave rviz:=true out."
        ) from None


def _typed(values: dict) -> list[dict]:
    """Nothing, or a set of parameters with text marked as text: launch would read `1` in it as a number."""
    marked = {k: ParameterValue(v, value_type=str) if isinstance(v, str) else v for k, v in values.items()}
    return [marked] if marked else []


def _remappings(image: str, camera_info: str, cameras: tuple[str, ...]) -> list[tuple[str, str]]:
    if cameras and image == ARGUMENTS["image"][0]:
        image = f"{CAMERA}/{image}"
    if cameras and any(topic and CAMERA not in topic for topic in (image, camera_info)):
        raise InputError(f"The cameras {', '.join(cameras)} need topics of their own: write {CAMERA} for their names.")
    beside, slash, _ = image.rpartition("/")
    topics = {
        "image": image,
        "image/compressed": f"{image}/compressed",
        "camera_info": camera_info or f"{beside}{slash}camera_info",
    }
    if not cameras:
        return list(topics.items())
    return [(f"{name}/{ours}", theirs.replace(CAMERA, name)) for name in cameras for ours, theirs in topics.items()]


def _dds_profile(choice: str) -> list[SetEnvironmentVariable]:
    if choice == "none" or (choice == "auto" and any(name in os.environ for name in DDS_PROFILE_VARIABLES)):
        return []
    profile = CONFIG / "fastdds_shm.xml" if choice == "auto" else Path(choice).expanduser()
    if not profile.is_file():
        raise InputError(f"dds_profile is {choice!r}; give auto, none or the path of an existing file.")
    # One of them only: Fast DDS complains about a profile that it is told of twice.
    name = DDS_PROFILE_VARIABLES[os.environ.get("ROS_DISTRO") in BEFORE_KILTED]
    return [SetEnvironmentVariable(name, str(profile))]


def _is_true(arguments: dict, name: str) -> bool:
    text = arguments[name].lower()
    if text not in ("true", "false"):
        raise InputError(f"{name} is {arguments[name]!r}; allowed is true or false.")
    return text == "true"
