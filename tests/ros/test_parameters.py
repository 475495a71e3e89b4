# SPDX-License-Identifier: Apache-2.0
"""The parameter table, what is made of it, and a real node that declares it and refuses what cannot be."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from da3_core.errors import InputError
from da3_core.options import DEFAULT_MODEL, InferenceOptions
from da3_ros import parameters
from da3_ros.parameters import TABLE, changed, settings_from
from da3_ros.settings import Settings

ROOT = Path(__file__).parents[2]
DOMAIN = 15

StartNode = Callable[..., Node]


@pytest.fixture
def start_node() -> Iterator[StartNode]:
    """Real nodes, each started with command line arguments of its own."""
    contexts = []

    def start(*arguments: str) -> Node:
        context = Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        contexts.append(context)
        return Node("da3", context=context, cli_args=["--ros-args", *arguments])

    yield start
    for context in contexts:
        context.shutdown()


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flattened(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def test_every_line_of_the_table_is_complete_and_allows_its_default():
    for line in TABLE.values():
        assert line.description.endswith(".")
        assert line.checked(line.default) == line.default
    assert TABLE["process_res"].default == 0  # which is None, the model's own
    assert InferenceOptions.process_res is None
    assert TABLE["model"].default == DEFAULT_MODEL
    assert TABLE["tf.mode"].option.choices == ("camera", "map_to_odom", "none")


def test_the_yaml_file_is_the_one_that_the_table_writes():
    text = (ROOT / "config/da3.yaml").read_text()
    assert text == parameters.to_yaml()
    read = flattened(yaml.safe_load(text)["/**"]["ros__parameters"])
    assert read == parameters.flat(Settings())
    assert {name: type(value) for name, value in read.items()} == {name: line.type for name, line in TABLE.items()}


def test_the_reference_has_a_line_for_each():
    lines = parameters.to_markdown().splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == list(TABLE)


def test_a_node_reads_the_yaml_file_and_describes_its_parameters(start_node):
    node = start_node("--params-file", str(ROOT / "config/da3.yaml"), "-p", "use_sim_time:=true")
    assert parameters.declare(node) == Settings() == parameters.read(node)
    descriptor = node.describe_parameter("window.size")
    assert descriptor.description == TABLE["window.size"].description
    assert (descriptor.integer_range[0].from_value, descriptor.integer_range[0].to_value) == (1, 64)
    assert "saddle_balanced" in node.describe_parameter("ref_view_strategy").additional_constraints


def test_the_command_line_changes_values_and_whole_numbers_serve_as_floats(start_node):
    node = start_node("-p", "window.size:=8", "-p", "points.max_depth_m:=5", "-p", "tf.mode:=none")
    settings = parameters.declare(node)
    assert (settings.window.size, settings.points.max_depth_m, settings.tf.mode) == (8, 5.0, "none")
    assert parameters.read(node) == settings


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("window.sice:=4", ["window.sice", "nearest are window.size"]),
        ("window.size:=0", ["window.size is 0", "from 1 to 64"]),
        ("window.size:=4.5", ["window.size is 4.5", "a whole number"]),
        ("window.stride:=4", ["stride is 4", "size 4"]),
        ("tf.mode:=odom", ["tf.mode is 'odom'", "camera, map_to_odom, none"]),
        ("autostart:=1", ["autostart is 1", "true or false"]),
        ("max_rate_hz:=.nan", ["max_rate_hz is nan", "from 0 to 1000000"]),
        ("map_frame:=''", ["map_frame is ''", "not empty"]),
    ],
)
def test_a_node_refuses_what_its_command_line_or_file_cannot_mean(start_node, override, said):
    with pytest.raises(InputError) as refusal:
        parameters.declare(start_node("-p", override))
    for words in said:
        assert words in str(refusal.value)


def test_unknown_parameters_in_a_file_are_refused(start_node, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    points: {stirde: 2}\n")
    with pytest.raises(InputError, match=r"points\.stirde.*points\.stride"):
        parameters.declare(start_node("--params-file", str(file)))


def test_sets_at_run_time(start_node):
    """The way a node uses `changed`: refused sets leave every value as it was."""
    node = start_node()
    settings = parameters.declare(node)

    def on_set(changes: list[Parameter]) -> SetParametersResult:
        nonlocal settings
        try:
            settings = changed(settings, {each.name: each.value for each in changes}, configured=True)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)

    def set_at_once(**values: object) -> SetParametersResult:
        return node.set_parameters_atomically([Parameter(n.replace("__", "."), value=v) for n, v in values.items()])

    assert set_at_once(points__stride=2, path__max_poses=7).successful
    assert (settings.points.stride, settings.path.max_poses) == (2, 7)
    refused = set_at_once(points__stride=3, window__size=8)
    assert not refused.successful
    assert "window.size is 4" in refused.reason
    assert "configure" in refused.reason
    assert not set_at_once(points__min_depth_m=5.0, points__max_depth_m=4.0).successful
    assert not set_at_once(points__stride=0).successful
    assert settings.points.stride == node.get_parameter("points.stride").value == 2
    assert set_at_once(window__size=4).successful


def test_what_waits_for_configure_may_change_before_it():
    settings = changed(Settings(), {"window.size": 6, "window.stride": 5, "use_sim_time": True}, configured=False)
    assert (settings.window.size, settings.window.stride) == (6, 5)


@pytest.mark.parametrize(("size", "stride", "possible"), [(1, 1, True), (2, 1, True), (2, 2, False), (1, 2, False)])
def test_windows_share_views(size, stride, possible):
    values = {"window.size": size, "window.stride": stride}
    if possible:
        assert settings_from(values).window.stride == stride
    else:
        with pytest.raises(InputError, match=r"window\.stride"):
            settings_from(values)


def test_the_default_map_frame_follows_the_namespace_and_names_are_taken_as_they_are() -> None:
    assert parameters.frame_in_namespace("da3_map", "/left/arm") == "left/arm/da3_map"
    assert parameters.frame_in_namespace("da3_map", "/") == "da3_map"
    assert parameters.frame_in_namespace("/da3_map", "/left") == "da3_map"
    assert parameters.frame_in_namespace("map", "/left") == "map"


def test_no_number_is_without_a_limit() -> None:
    for line in TABLE.values():
        if line.type is float:
            with pytest.raises(InputError, match=line.name):
                line.checked(1e308)
