# SPDX-License-Identifier: Apache-2.0
"""What is published of known results, to publishers that keep their messages in a list."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from geometry_msgs.msg import TransformStamped

from da3_core.geometry.similarity import Similarity
from da3_core.ros_data.conventions import OPTICAL_TO_MAP
from da3_core.ros_data.maps import MapState
from da3_core.ros_data.outputs import OUTPUTS
from da3_core.ros_data.transform_tree import TransformTree
from da3_core.stream.corrections import Bend, CorrectedPose
from da3_core.stream.frame import Frame
from da3_core.stream.session import View, WindowResult
from da3_ros.parameters import settings_from
from da3_ros.publishers import IN_METRES, OutputState, Publications, output_options

STAMP_NS = 5_000_000_007
FIRST = MapState(0, "start", 1)


class Kept:
    """A publisher whose only subscriber is a list."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.topic_name = name
        self.messages: list[Any] = []
        self.subscriptions = 1
        self.is_flooded = False
        self._order = order

    def get_subscription_count(self) -> int:
        return self.subscriptions

    def publish(self, msg: Any) -> None:
        if self.is_flooded:
            raise RuntimeError("the middleware takes no more")
        self.messages.append(msg)
        self._order.append(self.topic_name)


class Published:
    """Publications of all outputs that the parameters choose."""

    def __init__(self, **values: object) -> None:
        given = {name.replace("__", "."): value for name, value in values.items()}
        settings = settings_from({"base_frame": "camera", **given})
        self.order: list[str] = []
        self.warnings: list[str] = []
        self.tree = TransformTree(settings.map_frame, settings.tf.max_extrapolation_s)
        self.outputs = {
            each.name: Kept(each.name, self.order) for each in OUTPUTS if each.chosen(output_options(settings))
        }
        self.publications = Publications(self.outputs, self.warnings.append, settings, self.tree, "da3-test")

    def counts(self) -> dict[str, int]:
        return {name: len(each.messages) for name, each in self.outputs.items()}

    def only(self, name: str) -> Any:
        (message,) = self.outputs[name].messages
        return message


def view(stamp_ns: int = STAMP_NS, camera: str = "camera", **changes: object) -> View:
    given = View(
        frame=Frame(np.zeros((12, 16, 3), np.uint8), stamp_ns, camera),
        number=stamp_ns,
        is_new=True,
        image=np.full((6, 8, 3), 7, np.uint8),
        depth=np.full((6, 8), 2, np.float32),
        confidence=np.full((6, 8), 3, np.float32),
        sky=np.zeros((6, 8), bool),
        intrinsics=np.array([[8.0, 0, 4], [0, 8, 3], [0, 0, 1]]),
        world_to_camera=np.eye(4),
        processed_from_original=None,
    )
    return replace(given, **changes)


def result(*views: View, segment: int = 0) -> WindowResult:
    return WindowResult(views, "points", 1.5, "model", 0.01, segment, 0.25)


def test_a_view_with_everything_is_on_every_topic_and_its_transform_first():
    it = Published()
    it.publications.publish(result(view()), FIRST)
    assert it.counts() == dict.fromkeys(it.outputs, 1)
    assert len(it.outputs) == len(OUTPUTS)
    assert it.order[0] == "/tf"
    assert it.order[-1] == "window"
    (transform,) = it.only("/tf").transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("da3_map", "camera")
    assert it.publications.state() == OutputState({}, "da3_map -> camera", False, FIRST, list(IN_METRES))
    assert it.only("window").model == "da3-test"


def test_what_a_model_does_not_say_is_not_published():
    it = Published()
    it.publications.publish(result(view(confidence=None, sky=None, intrinsics=None, world_to_camera=None)), FIRST)
    published = {name for name, count in it.counts().items() if count}
    assert published == {
        *(f"depth/{name}" for name in ("image", "image_raw", "camera_info", "preview")),
        *(f"depth/{name}" for name in ("image/compressed", "image/compressedDepth", "preview/compressed")),
        "image_rect",
        "camera_info",
        "map_info",
        "window",
    }
    assert it.publications.state().transform == "no pose"
    assert not it.publications.state().transform_is_missing


def test_what_nobody_subscribes_to_is_not_computed():
    """The depth of this view cannot be packed, as the topic that does have a subscriber need not notice. Transforms and
    what is latched are for who comes later too."""
    it = Published()
    for name, each in it.outputs.items():
        each.subscriptions = int(name == "image_rect")
    it.publications.publish(result(view(depth=None)), FIRST)
    assert [name for name, count in it.counts().items() if count] == ["/tf", "image_rect", "map_info"]


def test_a_view_that_repeats_an_earlier_result_is_only_in_the_window():
    it = Published()
    it.publications.publish(result(view(1), view(2)), FIRST)
    it.publications.publish(result(view(2, is_new=False), view(3)), FIRST)
    stamps = [message.header.stamp.nanosec for message in it.outputs["depth/image"].messages]
    assert stamps == [1, 2, 3]
    assert [len(message.views) for message in it.outputs["window"].messages] == [2, 2]
    assert [len(message.poses) for message in it.outputs["path"].messages] == [2, 3]


def test_the_path_holds_poses_as_they_are_known_by_now():
    it = Published()
    it.publications.publish(result(view(1)), FIRST)
    moved = np.eye(4)
    moved[2, 3] = -5.0  # the camera is five ahead
    later = replace(result(view(2)), corrected=(CorrectedPose(1, 1, "camera", moved),))
    it.publications.publish(later, FIRST)
    first, path = it.outputs["path"].messages
    assert first.poses[0].pose.position.x == 0
    assert [pose.pose.position.x for pose in path.poses] == [5, 0]
    assert [pose.header.stamp.nanosec for pose in path.poses] == [1, 2]
    ahead = Similarity(1.0, np.eye(3), np.array([0.0, 0, 2]))
    it.publications.publish(replace(result(view(3)), bend=Bend({1: Similarity.identity(), 2: ahead})), FIRST)
    path = it.outputs["path"].messages[-1]
    assert [pose.pose.position.x for pose in path.poses] == [5, 2, 0], "the newest is in the bent map already"


def test_a_new_map_starts_a_new_trajectory_and_is_told_once():
    it = Published()
    it.publications.publish(result(view(1)), FIRST)
    it.publications.publish(result(view(2), segment=1), MapState(1, "gap", 2))
    it.publications.publish(result(view(3), segment=1), MapState(1, "gap", 2))
    assert [len(message.poses) for message in it.outputs["path"].messages] == [1, 1, 2]
    told = it.outputs["map_info"].messages
    assert [(each.segment, each.reason, each.header.stamp.nanosec) for each in told] == [(0, "start", 1), (1, "gap", 2)]
    assert {(each.header.frame_id, each.unit, each.up) for each in told} == {("da3_map", "metres", "first camera")}
    it.publications.publish(replace(result(view(4), segment=1), scale_source="none"), MapState(1, "gap", 2))
    assert (told[-1].segment, told[-1].unit) == (1, "model units"), "more is known of it"


def test_a_trajectory_is_forgotten_and_has_a_longest_length():
    it = Published(path__max_poses=2)
    for stamp_ns in (1, 2, 3):
        it.publications.publish(result(view(stamp_ns)), FIRST)
    it.publications.reset()
    it.publications.publish(result(view(4)), FIRST)
    assert [len(message.poses) for message in it.outputs["path"].messages] == [1, 2, 2, 1]
    it.publications.apply(settings_from({"path.max_poses": 3}))
    for stamp_ns in (5, 6, 7):
        it.publications.publish(result(view(stamp_ns)), FIRST)
    assert len(it.outputs["path"].messages[-1].poses) == 3


def test_publications_that_the_middleware_refuses_are_counted_and_the_rest_goes_out():
    it = Published()
    it.outputs["points"].is_flooded = it.outputs["/tf"].is_flooded = True
    for _ in range(2):
        it.publications.publish(result(view()), FIRST)
    assert it.publications.state().failures == {"points": 2, "/tf": 2}
    assert it.counts()["depth/image"] == 2


def test_a_transform_goes_to_the_root_of_the_tree_of_the_camera():
    it = Published()
    mounting = TransformStamped(child_frame_id="camera")
    mounting.header.frame_id = "base_link"
    mounting.transform.translation.x, mounting.transform.rotation.w = 0.5, 1.0
    it.tree.add([mounting], static=True)
    it.publications.publish(result(view()), FIRST)
    (transform,) = it.only("/tf").transforms
    assert transform.child_frame_id == "base_link"
    in_map = transform.transform.translation
    camera_in_map = it.only("pose").pose.position
    np.testing.assert_allclose(
        [in_map.x, in_map.y, in_map.z],
        np.array([camera_in_map.x, camera_in_map.y, camera_in_map.z]) - OPTICAL_TO_MAP[:3, :3] @ (0.5, 0, 0),
        atol=1e-9,
    )


def test_a_transform_that_cannot_be_published_is_said_and_the_rest_goes_out():
    it = Published()
    it.outputs["scan"].subscriptions = 0
    it.publications.publish(result(view(camera="")), FIRST)
    state = it.publications.state()
    assert state.transform_is_missing
    assert "empty frame_id" in state.transform
    assert it.warnings == [state.transform]
    assert (it.counts()["/tf"], it.counts()["pose"]) == (0, 1)
    it.publications.publish(result(view()), FIRST)
    in_metres = [name for name in IN_METRES if name != "scan"]
    assert it.publications.state() == OutputState({}, "da3_map -> camera", False, FIRST, in_metres)


def test_a_scan_is_in_the_frame_of_the_robot_and_what_is_amiss_is_said():
    it = Published(base_frame="base_link", scan__min_height_m=-2.0)
    it.publications.publish(result(view()), FIRST)
    assert it.counts()["scan"] == 0
    assert "not below base_link" in it.publications.state().baseless
    mounting = TransformStamped(child_frame_id="camera")
    mounting.header.frame_id = "base_link"
    mounting.transform.translation.x, mounting.transform.rotation.y = 0.5, np.sin(np.pi / 4)
    mounting.transform.rotation.w = np.cos(np.pi / 4)  # the camera's z is the x of the base
    it.tree.add([mounting], static=True)
    it.publications.publish(result(view()), FIRST)
    scan = it.only("scan")
    assert (scan.header.frame_id, scan.header.stamp.sec, it.publications.state().baseless) == ("base_link", 5, "")
    assert np.nanmin(scan.ranges) == pytest.approx(2.5, rel=0.01)
    it.outputs["scan"].subscriptions = 0
    it.publications.publish(result(view(camera="elsewhere")), FIRST)
    assert it.publications.state().baseless == "", "nobody asks"


def test_no_transforms_where_they_are_not_wanted():
    it = Published(tf__mode="none")
    assert "/tf" not in it.outputs
    it.publications.publish(result(view()), FIRST)
    assert it.publications.state().transform == "off"
    assert not it.publications.state().transform_is_missing


def test_the_map_is_a_cloud_in_its_frame_from_the_first_listener_on_and_in_its_own_time():
    it = Published(map_points__voxel_m=0.5, points__confidence_percentile=0.0)
    it.outputs["map_points"].subscriptions = 0
    second = 10**9
    it.publications.publish(result(view(second)), FIRST)
    assert it.counts()["map_points"] == 0
    it.outputs["map_points"].subscriptions = 1
    for stamp_ns in (2 * second, 2 * second + second // 2, 3 * second):
        it.publications.publish(result(view(stamp_ns)), FIRST)
    first, last = it.outputs["map_points"].messages
    assert (first.header.frame_id, first.header.stamp.sec, last.header.stamp.sec) == ("da3_map", 2, 3)
    points = np.frombuffer(last.data, [(field.name, "<f4") for field in last.fields])
    assert [field.name for field in last.fields] == ["x", "y", "z", "rgb", "confidence"]
    np.testing.assert_allclose(points["x"], 2, atol=1e-6, err_msg="depth lies ahead, which is x of the map")
    assert points["y"].max() == pytest.approx(1, abs=0.4)
    assert set(points["confidence"]) == {3}
    assert set(points["rgb"].view(np.uint32)) == {0x070707}
    moved = Bend({0: Similarity(1.0, np.eye(3), np.array([0.0, 0, 10]))})
    it.publications.publish(
        replace(result(view(4 * second, depth=np.full((6, 8), np.nan, np.float32))), bend=moved), FIRST
    )
    ahead = np.frombuffer(it.outputs["map_points"].messages[-1].data, points.dtype)["x"]
    np.testing.assert_allclose(ahead, 12, atol=1e-5)
    it.publications.publish(result(view(5 * second), segment=1), MapState(1, "gap", 2))
    assert it.outputs["map_points"].messages[-1].width == len(points)
    assert "map_points" not in Published(map_points__rate_hz=0.0).outputs
    always = Published(map_points__always=True)
    always.outputs["map_points"].subscriptions = 0
    always.publications.publish(result(view()), FIRST)
    assert always.counts()["map_points"] == 1
