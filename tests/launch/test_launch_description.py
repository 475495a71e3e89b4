# SPDX-License-Identifier: Apache-2.0
"""What the launch file makes of its arguments. Where the launch system is missing, records of the few calls that the
file makes stand in for it; `test_launch.py` runs the file in the real one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from da3_core.errors import InputError
from da3_core.ros_data.outputs import OUTPUTS
from da3_ros.parameters import TABLE

ROOT = Path(__file__).parents[2]
SHIPPED_PROFILE = str(ROOT / "config/fastdds_shm.xml")
PROFILE_VARIABLES = ["FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"]


class Recorded(SimpleNamespace):
    """A call of the launch system, kept as its arguments."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(given=given, **named)


class DeclareLaunchArgument(Recorded): ...


class SetEnvironmentVariable(Recorded): ...


class Node(Recorded): ...


class SetRemap(Recorded): ...


class IncludeLaunchDescription(Recorded): ...


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load(monkeypatch, "da3")


def load(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A launch file as a module."""
    stand_ins = {
        "launch": {"Action": Recorded, "LaunchContext": Recorded, "LaunchDescription": Recorded},
        "launch.actions": {
            "DeclareLaunchArgument": DeclareLaunchArgument,
            "GroupAction": Recorded,
            "IncludeLaunchDescription": IncludeLaunchDescription,
            "OpaqueFunction": Recorded,
            "SetEnvironmentVariable": SetEnvironmentVariable,
        },
        "launch.conditions": {"IfCondition": Recorded},
        "launch.launch_description_sources": {"PythonLaunchDescriptionSource": Recorded},
        "launch.substitutions": {"LaunchConfiguration": Recorded},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node, "SetRemap": SetRemap},
        "launch_ros.parameter_descriptions": {"ParameterValue": Recorded},
    }
    for package, contents in stand_ins.items():
        module = ModuleType(package)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, package, module)
    spec = importlib.util.spec_from_file_location(f"{name}_launch", ROOT / f"launch/{name}.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Evaluate the file as `ros2 launch` does with these arguments; returns what it starts."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def evaluate(given: dict[str, str] | None = None) -> list[Any]:
        *arguments, function = launch_file.generate_launch_description().given[0]
        values = {each.given[0]: each.default_value for each in arguments}
        assert set(given or {}) <= set(values)
        return function.function(SimpleNamespace(launch_configurations={**values, **(given or {})}))

    return evaluate


def node_of(started: list[Any], package: str = "da3_ros") -> Node:
    (node,) = (each for each in started if isinstance(each, Node) and each.package == package)
    return node


def test_every_parameter_is_an_argument_with_its_sentence(launch_file):
    *arguments, _ = launch_file.generate_launch_description().given[0]
    described = {each.given[0]: each.description for each in arguments}
    assert len(described) == len(arguments) == len(TABLE) + len(launch_file.ARGUMENTS)
    for name, line in TABLE.items():
        assert line.description in described[name]
        assert str(line.default) in described[name]


def test_without_arguments_the_yaml_file_alone_decides(start):
    (file,) = node_of(start()).parameters
    assert Path(file) == ROOT / "config/da3.yaml"


def test_given_arguments_override_with_the_type_of_the_table(start):
    given = {"window.size": "8", "points.max_depth_m": "5", "autostart": "False", "model": "1", "use_sim_time": "true"}
    overrides = node_of(start({**given, "params_file": "/mine.yaml"})).parameters[1]
    text = overrides.pop("model")
    assert (text.given, text.value_type) == (("1",), str)
    assert overrides == {"window.size": 8, "points.max_depth_m": 5.0, "autostart": False, "use_sim_time": True}
    assert type(overrides["points.max_depth_m"]) is float


@pytest.mark.parametrize("given", [{"window.size": "many"}, {"tf.mode": "odom"}, {"autostart": "1"}, {"rviz": "yes"}])
def test_arguments_that_cannot_be_are_refused_with_their_name(start, given):
    with pytest.raises(InputError, match=next(iter(given))):
        start(given)


@pytest.mark.parametrize(
    ("given", "image", "camera_info"),
    [
        ({}, "image", "camera_info"),
        ({"image": "/camera/image_raw"}, "/camera/image_raw", "/camera/camera_info"),
        ({"image": "/a/b", "camera_info": "/c/info"}, "/a/b", "/c/info"),
    ],
)
def test_topics(start, given, image, camera_info):
    remappings = dict(node_of(start(given)).remappings)
    assert remappings == {"image": image, "image/compressed": f"{image}/compressed", "camera_info": camera_info}


def environment(started: list[Any]) -> dict[str, str]:
    return dict(each.given for each in started if isinstance(each, SetEnvironmentVariable))


def test_the_shared_memory_profile_is_set_unless_the_user_decides(start, monkeypatch):
    for distribution, variable in (("jazzy", PROFILE_VARIABLES[1]), ("kilted", PROFILE_VARIABLES[0])):
        monkeypatch.setenv("ROS_DISTRO", distribution)
        started = start()
        assert environment(started) == {variable: SHIPPED_PROFILE}
    assert isinstance(started[0], SetEnvironmentVariable)  # before the node that it is for
    assert environment(start({"dds_profile": "none"})) == {}
    chosen = str(ROOT / "package.xml")
    assert set(environment(start({"dds_profile": chosen})).values()) == {chosen}
    with pytest.raises(InputError, match="dds_profile"):
        start({"dds_profile": "/nowhere.xml"})
    monkeypatch.setenv(PROFILE_VARIABLES[1], "/users.xml")
    assert environment(start()) == {}


def test_rviz_that_is_not_installed_ends_the_launch_before_anything_starts(start, monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(InputError, match="RViz is not installed: apt install"):
        start({"rviz": "true"})


def test_rviz_shows_the_topics_of_the_node_in_its_map(start, monkeypatch, tmp_path):
    (tmp_path / "share/ament_index/resource_index/packages").mkdir(parents=True)
    (tmp_path / "share/ament_index/resource_index/packages/rviz2").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert not any(isinstance(each, Node) and each.package == "rviz2" for each in start())
    assert node_of(start({"rviz": "true", "namespace": "robot"}), "rviz2").arguments[-1] == "robot/da3_map"
    rviz = node_of(start({"rviz": "true", "namespace": "robot", "map_frame": "world"}), "rviz2")
    flag, config, frame_flag, frame = rviz.arguments
    assert (flag, frame_flag, frame, rviz.namespace) == ("-d", "-f", "world", "robot")
    shown = yaml.safe_load(Path(config).read_text())["Visualization Manager"]
    assert shown["Global Options"]["Fixed Frame"] == TABLE["map_frame"].default
    topics = {each["Name"]: each["Topic"]["Value"] for each in shown["Displays"] if "Topic" in each}
    assert topics == {
        "Colour": "da3/image_rect",
        "Depth": "da3/depth/preview",
        "Points": "da3/points",
        "Map": "da3/map_points",
        "Scan": "da3/scan",
        "Path": "da3/path",
    }
    assert any(each["Class"] == "rviz_default_plugins/TF" for each in shown["Displays"])


def started_by(monkeypatch: pytest.MonkeyPatch, name: str, **given: str) -> list[Any]:
    """What another launch file starts, but for its arguments."""
    *_, function = load(monkeypatch, name).generate_launch_description().given[0]
    return function.function(SimpleNamespace(launch_configurations=given))


NVBLOX = {
    "depth/image": "depth/image",
    "depth/camera_info": "depth/camera_info",
    "image_rect": "color/image",
    "camera_info": "color/camera_info",
}


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("nav2", {}, {"scan": "scan", "points": "points"}),
        (
            "nav2",
            {"cameras": "front,left"},
            {f"{camera}/{name}": f"{camera}/{name}" for camera in ("front", "left") for name in ("scan", "points")},
        ),
        ("nvblox", {}, {ours: f"camera_0/{theirs}" for ours, theirs in NVBLOX.items()}),
        (
            "nvblox",
            {"cameras": "front,left"},
            {
                f"{camera}/{ours}": f"camera_{number}/{theirs}"
                for number, camera in enumerate(("front", "left"))
                for ours, theirs in NVBLOX.items()
            },
        ),
    ],
)
def test_other_packages_find_their_topics_and_nothing_of_the_node_is_decided_twice(monkeypatch, name, given, expected):
    group = started_by(monkeypatch, name, **given)[0]
    *remaps, node = group.given[0]
    topics = {each.src.removeprefix("~/"): each.dst for each in remaps}
    assert topics == expected
    cameras = given["cameras"].split(",") if given else [""]
    assert set(topics) <= {each.topic("", camera).lstrip("/") for each in OUTPUTS for camera in cameras}
    assert Path(node.given[0].given[0]) == ROOT / "launch/da3.launch.py"
    assert all(isinstance(each, SetRemap) for each in remaps)
    assert isinstance(node, IncludeLaunchDescription)


def test_the_cameras_of_a_rig_have_topics_of_their_own(start):
    rig = {"cameras": "front, left", "image": "/rig/{camera}/image_raw"}
    remaps = dict(node_of(start(rig)).remappings)
    assert remaps["front/image"] == "/rig/front/image_raw"
    assert remaps["left/image/compressed"] == "/rig/left/image_raw/compressed"
    assert remaps["left/camera_info"] == "/rig/left/camera_info"
    assert len(remaps) == 6
    by_default = node_of(start({"cameras": "front,left"})).remappings
    assert all(ours == theirs for ours, theirs in by_default)
    with pytest.raises(InputError, match=r"front, left need topics of their own: write \{camera\}"):
        start({**rig, "image": "/camera/image_raw"})


def test_nvblox_maps_in_the_frame_of_the_map_and_only_where_it_is_asked_for(monkeypatch):
    asked, _ = load(monkeypatch, "nvblox").generate_launch_description().given[0]
    _, nvblox = started_by(monkeypatch, "nvblox", cameras="front,left")
    assert (asked.given[0], asked.default_value) == ("nvblox", "false")
    assert nvblox.condition.given[0].given == ("nvblox",)
    [parameters] = nvblox.parameters
    assert parameters["global_frame"] == TABLE["map_frame"].default
    assert parameters["use_tf_transforms"]
    assert parameters["num_cameras"] == 2


def test_the_costmap_of_nav2_reads_what_the_launch_file_publishes():
    costmap = yaml.safe_load((ROOT / "config/nav2_local_costmap.yaml").read_text())
    given = costmap["local_costmap"]["local_costmap"]["ros__parameters"]
    assert given["robot_base_frame"] == TABLE["base_frame"].default
    sources = {}
    for layer in given["plugins"]:
        for source in given[layer].get("observation_sources", "").split():
            sources[source] = given[layer][source]
    types = {"LaserScan": "sensor_msgs/msg/LaserScan", "PointCloud2": "sensor_msgs/msg/PointCloud2"}
    ours = {f"/{each.name}": each.type for each in OUTPUTS}
    assert {each["topic"]: types[each["data_type"]] for each in sources.values()} == {
        topic: ours[topic] for topic in ("/scan", "/points")
    }
    assert sources["scan"]["inf_is_valid"], "free bearings are +Inf"
    assert sources["scan"]["obstacle_max_range"] <= TABLE["scan.max_range_m"].default
    assert sources["scan"]["max_obstacle_height"] >= TABLE["scan.max_height_m"].default
