# SPDX-License-Identifier: Apache-2.0
"""The node's states, its parameters while it runs, and what can be asked of it, through its services."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from da3_ros.msg import DepthWindow
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from footage import Footage, position
from geometry_msgs.msg import PoseStamped
from harness import Camera, Graph, newest_status, stamp_ns
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Path
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import SetBool, Trigger

from da3_core.synthetic import Walk

DEPTH = "/da3/depth/image"


class Node:
    """The services of `/da3`."""

    def __init__(self, graph: Graph, camera: Camera, footage: Footage):
        self.graph, self.camera, self.footage = graph, camera, footage

    def state(self) -> int:
        return self.graph.call("/da3/get_state", GetState).current_state.id

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.graph.call("/da3/change_state", ChangeState, request).success

    def set(self, name: str, value: Any) -> str:
        """The reason of a refusal, or nothing."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        result = self.graph.call("/da3/set_parameters", SetParameters, request).results[0]
        assert result.successful == (result.reason == "")
        return result.reason

    def ask(self, service: str) -> Trigger.Response:
        return self.graph.call(f"/da3/{service}", Trigger)

    def pause(self, paused: bool) -> SetBool.Response:
        return self.graph.call("/da3/pause", SetBool, SetBool.Request(data=paused))

    def play(self, frames: list[int], topic: str = DEPTH, kind: type = Image) -> list[Any]:
        """What comes out on one topic for frames of a session that goes on, one message per frame."""
        images = self.footage.images(frames)
        with self.graph.listen({topic: kind}) as inbox:
            self.camera.publish("/image", *images)
            self.graph.wait_for(f"{len(frames)} messages of {topic}", lambda: len(inbox[topic]) == len(frames))
            return inbox[topic]

    def status(self, part: str, level: bytes = DiagnosticStatus.OK, **values: str) -> DiagnosticStatus:
        """The first report in which a part has that level and those values."""
        with self.graph.listen({"/diagnostics": DiagnosticArray}) as inbox:

            def found() -> DiagnosticStatus | None:
                status = newest_status(inbox["/diagnostics"], f"da3: {part}")
                if status is None or status.level != level:
                    return None
                return status if values.items() <= {each.key: each.value for each in status.values}.items() else None

            return self.graph.wait_for(f"{part} at level {level!r} with {values}", found)


@pytest.fixture(scope="module")
def running(graph: Graph, footage: Footage, walk: Walk) -> Node:
    graph.start_node({"every_frame": "true", "window.size": 2, "process_res": walk.images.shape[2]})
    return Node(graph, graph.camera(), footage)


@pytest.fixture
def node(running: Node) -> Iterator[Node]:
    """Active and streaming, in a new session."""
    running.footage.cut()
    yield running
    assert running.set("mode", "stream") == ""
    assert running.pause(False).success
    assert running.state() == State.PRIMARY_STATE_ACTIVE


def test_what_nobody_subscribes_to_is_not_made(node: Node) -> None:
    node.play([0, 1, 2], "/da3/pose", PoseStamped)
    log = node.graph.processes[0]
    assert "made" not in log.log
    node.play([3], "/da3/depth/preview")
    node.graph.wait_for("the note", lambda: "made colorize_depth" in log.log)
    assert "made point_cloud" not in log.log
    node.play([4], "/da3/points", PointCloud2)
    node.graph.wait_for("the note", lambda: "made point_cloud" in log.log)
    assert "made depth_in_millimetres" not in log.log


def test_deactivated_it_hears_nothing_and_activated_it_goes_on(node: Node) -> None:
    node.play([0, 1])
    assert node.change(Transition.TRANSITION_DEACTIVATE)
    assert node.state() == State.PRIMARY_STATE_INACTIVE
    assert not node.ask("infer").success
    assert "not active" in node.ask("reset").message
    node.graph.wait_for("the camera to be left", lambda: node.graph.node.count_subscribers("/image") == 0)
    node.camera.publish("/image", *node.footage.images([2, 3]), readers=0)
    assert node.change(Transition.TRANSITION_ACTIVATE)
    out = node.play([4, 5])
    assert [node.footage.frame_at[stamp_ns(depth)] for depth in out] == [4, 5]


def test_cleaned_up_it_can_be_configured_otherwise(node: Node) -> None:
    def reconfigure(size: int) -> None:
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            assert node.change(transition)
        node.graph.wait_for("its topics to go", lambda: node.graph.node.count_publishers(DEPTH) == 0)
        assert node.set("window.size", size) == ""
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert node.change(transition)

    assert "configure" in node.set("window.size", 3)
    reconfigure(3)
    with node.graph.listen({"/da3/window": DepthWindow}) as inbox:
        node.play([0, 1, 2, 3])
        node.graph.wait_for("two windows", lambda: len(inbox["/da3/window"]) == 2)
        assert [len(window.views) for window in inbox["/da3/window"]] == [3, 3]
    reconfigure(2)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("points.stride", 0, "points.stride"),
        ("points.stride", "two", "a whole number"),
        ("depth.confidence_floor", -1.0, "depth.confidence_floor"),
        ("mode", "sometimes", "stream, on_demand"),
        ("process_res", 252, "configure"),
        ("model", "da3-base", "configure"),
        ("points.strides", 2, "nearest are points.stride"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_with_the_reason(node: Node, name: str, value: Any, words: str) -> None:
    assert words in node.set(name, value)


def test_parameters_describe_themselves(node: Node) -> None:
    request = DescribeParameters.Request(names=["points.stride", "mode"])
    stride, mode = node.graph.call("/da3/describe_parameters", DescribeParameters, request).descriptors
    assert stride.integer_range[0].from_value == 1
    assert stride.description.endswith(".")
    assert "stream, on_demand" in mode.additional_constraints


def test_a_dynamic_parameter_takes_effect_at_once(node: Node) -> None:
    for name in ("points.confidence_percentile", "points.edge_threshold"):
        assert node.set(name, 0.0) == ""
    every = node.play([0, 1], "/da3/points", PointCloud2)[-1]
    assert node.set("points.stride", 3) == ""
    third = node.play([2], "/da3/points", PointCloud2)[-1]
    assert node.set("points.organized", True) == ""
    organised = node.play([3], "/da3/points", PointCloud2)[-1]
    assert node.set("points.stride", 1) == ""
    height, width = node.footage.walk.size
    assert (every.height, every.width, every.is_dense) == (1, height * width, True)
    assert (third.height, third.width, third.is_dense) == (1, height * width // 9, True)
    assert (organised.height, organised.width, organised.is_dense) == (height // 3, width // 3, False)


def test_on_demand_it_infers_only_when_asked(node: Node) -> None:
    assert node.set("mode", "on_demand") == ""
    with node.graph.listen({DEPTH: Image}) as inbox:
        node.camera.publish("/image", *node.footage.images([0, 1, 2, 3]))
        node.status("input", waiting="4")
        for outputs in (2, 3):
            assert "Inferred 2 views" in node.ask("infer").message
            node.graph.wait_for("its output", lambda outputs=outputs: len(inbox[DEPTH]) >= outputs)
            assert len(inbox[DEPTH]) == outputs
        assert node.set("mode", "stream") == ""
        node.graph.wait_for("the rest", lambda: len(inbox[DEPTH]) == 4)


def test_paused_it_keeps_what_arrives(node: Node) -> None:
    assert node.pause(True).success
    with node.graph.listen({DEPTH: Image}) as inbox:
        node.camera.publish("/image", *node.footage.images([0, 1]))
        node.status("input", waiting="2")
        assert node.status("inference").message == "Paused."
        assert inbox[DEPTH] == []
        assert node.pause(False).success
        node.graph.wait_for("the outputs", lambda: len(inbox[DEPTH]) == 2)


def test_reset_starts_a_new_map(node: Node) -> None:
    before = node.play([0, 1, 2], "/da3/pose", PoseStamped)
    assert np.linalg.norm(position(before[-1].pose)) > 0.1
    assert node.ask("reset").success
    with node.graph.listen({"/da3/path": Path}) as inbox:
        after = node.play([3, 4], "/da3/pose", PoseStamped)
        node.graph.wait_for("a path", lambda: inbox["/da3/path"])
        assert len(inbox["/da3/path"][0].poses) == 2
    np.testing.assert_allclose(position(after[0].pose), 0, atol=1e-6)


def test_a_failing_model_is_reported_and_tried_again_after_a_pause(node: Node) -> None:
    """Images that are none of the walk's make the exact model raise, as running out of memory makes a network."""
    assert node.set("max_consecutive_failures", 3) == ""
    images = node.footage.images([0, 1])
    node.camera.publish("/image", images[0], noise(images[1]))
    assert "none of the" in node.status("inference", level=DiagnosticStatus.ERROR).message
    node.play([1, 2])
    node.status("inference", level=DiagnosticStatus.OK)

    node.camera.publish("/image", *(noise(image) for image in node.footage.images([0, 1, 2])))
    node.graph.wait_for("the pause", lambda: "(3 in a row)" in node.graph.processes[0].log)
    assert "The next try is in 2 s." in node.graph.processes[0].log
    node.footage.cut()
    node.play([3, 4])
    node.status("inference", level=DiagnosticStatus.OK)
    node.status("lifecycle", level=DiagnosticStatus.OK)


def test_images_that_no_model_takes_are_refused_one_by_one_and_never_switch_it_off(node: Node) -> None:
    """At one row to eighty columns; each used to count as a failure of the model."""
    assert node.set("max_consecutive_failures", 3) == ""
    for image in node.footage.images([0, 1, 2, 3, 4, 5]):
        image.height, image.width, image.step = 2, 160, 480
        image.data = image.data[:960]
        node.camera.publish("/image", image)
    status = node.status("input", level=DiagnosticStatus.WARN)
    assert "for unusable" in status.message
    node.footage.cut()
    node.play([3, 4])
    node.status("inference", level=DiagnosticStatus.OK)
    assert node.state() == State.PRIMARY_STATE_ACTIVE


def noise(image: Image) -> Image:
    """Another image in the same message."""
    image.data[:] = type(image.data)("B", np.random.default_rng(0).bytes(len(image.data)))
    return image
