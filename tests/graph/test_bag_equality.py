# SPDX-License-Identifier: Apache-2.0
"""A bag played to the live node and the same bag processed offline: the same depth, poses and stamps."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from da3_ros.msg import DepthView
from harness import Graph, Inbox, stamp_ns, unpack
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from da3_core.ros_data.outputs import OUTPUTS
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag
from da3_core.synthetic.exact import ExactModel
from da3_ros.messages import message_class

pytest.importorskip("rosbags", reason="needs the package rosbags")

from rosbags.highlevel import AnyReader

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import process_bag
from da3_core.bag.read import BagReader
from da3_core.options import InferenceOptions, PointOptions
from da3_core.stream.inference import bind_inference

PIXELS = {"32FC1": np.float32, "16UC1": np.uint16, "rgb8": np.uint8, "mono8": np.uint8}
COMPARED = [  # indoors; by other trees; told as each map begins, by a node once before its first image
    each
    for each in OUTPUTS
    if not (each.live_only or each.latched or each.name.startswith("sky/") or each.name == "/tf")
]
TOPICS = {each.topic("/da3"): message_class(each.type) for each in COMPARED}
IMAGES = [topic for topic, kind in TOPICS.items() if kind is Image]
PER_WINDOW = ("/da3/path", "/da3/window")
PER_FRAME = [topic for topic in TOPICS if topic not in PER_WINDOW]
INPUTS = {"/camera/image_raw": ("/image", Image), "/camera/camera_info": ("/camera_info", CameraInfo)}
SAME = {"rtol": 1e-6, "atol": 1e-9}  # both sides may use another number of threads, and so another order of sums


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(walk, tmp_path_factory.mktemp("recording") / "bag")


@pytest.fixture(scope="module")
def live(graph: Graph, recording: Path, walk: Walk) -> Iterator[Inbox]:
    """Every frame through the node, whose model draws another world and unit for every window."""
    graph.start_node({"every_frame": "true", "process_res": walk.images.shape[2]})
    camera = graph.camera()
    with graph.listen(TOPICS) as inbox, AnyReader([recording]) as reader:
        played = [each for each in reader.connections if each.topic in INPUTS]
        infos = (raw for each, _, raw in reader.messages(played) if INPUTS[each.topic][1] is CameraInfo)
        camera.publish("/camera_info", deserialize_message(next(infos), CameraInfo))
        time.sleep(1)  # two topics are not in order with each other, and nothing tells that this one has arrived
        for connection, _, raw in reader.messages(played):
            topic, kind = INPUTS[connection.topic]
            camera.publish(topic, deserialize_message(raw, kind))
        graph.wait_for("every image", lambda: all(len(inbox[t]) >= len(walk) for t in PER_FRAME))
        graph.wait_for("the last window", lambda: all(len(inbox[t]) == len(walk) - 3 for t in PER_WINDOW))
        yield inbox


@pytest.fixture(scope="module")
def offline(recording: Path, walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The same model, drawing the same."""
    folder = tmp_path_factory.mktemp("offline") / "bag"
    options = BagOptions(points=PointOptions())
    with BagReader(recording) as bag:
        process_bag(
            RecordedCamera(bag, options),
            bind_inference(ExactModel(walk), InferenceOptions(process_res=walk.images.shape[2])),
            options,
            folder,
            "mcap",
            model_name="auto",
            advance=lambda count: None,
            stop=lambda: False,
            on_result=lambda result, session: None,
        )
    content: dict[str, list[Any]] = {topic: [] for topic in TOPICS}
    with AnyReader([folder]) as reader:
        for connection, _, raw in reader.messages([each for each in reader.connections if each.topic in TOPICS]):
            content[connection.topic].append(deserialize_message(raw, TOPICS[connection.topic]))
    return content


def numbers(pose: Any) -> list[float]:
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]


def assert_same_image(one: Image, other: Image) -> None:
    assert (one.header, one.height, one.width, one.encoding, one.step, one.is_bigendian) == (
        other.header,
        other.height,
        other.width,
        other.encoding,
        other.step,
        other.is_bigendian,
    )
    dtype = PIXELS[one.encoding]
    tolerance = SAME if dtype is np.float32 else {"atol": 1}
    np.testing.assert_allclose(
        np.frombuffer(one.data, dtype).astype(float), np.frombuffer(other.data, dtype).astype(float), **tolerance
    )


def test_stamps_are_the_same_and_all_there(live: Inbox, offline: dict[str, list[Any]], walk: Walk) -> None:
    for topic in TOPICS:
        assert live.stamps(topic) == [stamp_ns(message) for message in offline[topic]], topic
    assert len(live["/da3/depth/image"]) == len(walk)


def test_images_are_the_same(live: Inbox, offline: dict[str, list[Any]]) -> None:
    for topic in IMAGES:
        for one, other in zip(live[topic], offline[topic], strict=True):
            assert_same_image(one, other)


def test_calibration_poses_and_path_are_the_same(live: Inbox, offline: dict[str, list[Any]]) -> None:
    def pairs(topic: str) -> zip:
        return zip(live[topic], offline[topic], strict=True)

    for one, other in pairs("/da3/depth/camera_info"):
        assert (one.header, one.height, one.width, one.d) == (other.header, other.height, other.width, other.d)
        for name in "krp":
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), **SAME)
    for one, other in pairs("/da3/pose"):
        assert one.header == other.header
        np.testing.assert_allclose(numbers(one.pose), numbers(other.pose), **SAME)
    for one, other in pairs("/da3/odometry"):
        assert (one.header, one.child_frame_id) == (other.header, other.child_frame_id)
        np.testing.assert_allclose(numbers(one.pose.pose), numbers(other.pose.pose), **SAME)
        np.testing.assert_allclose(one.pose.covariance, other.pose.covariance, **SAME)
        np.testing.assert_array_equal(one.twist.covariance, other.twist.covariance)
    for one, other in pairs("/da3/path"):
        assert [pose.header for pose in one.poses] == [pose.header for pose in other.poses]


def test_clouds_are_the_same(live: Inbox, offline: dict[str, list[Any]]) -> None:
    for one, other in zip(live["/da3/points"], offline["/da3/points"], strict=True):
        assert (one.header, one.fields, one.point_step, one.is_dense) == (
            other.header,
            other.fields,
            other.point_step,
            other.is_dense,
        )
        points, same = unpack(one), unpack(other)
        assert abs(len(points) - len(same)) < 0.001 * len(points)  # of pixels at a threshold
        if len(points) == len(same):
            np.testing.assert_array_equal(points["rgb"].view(np.uint32), same["rgb"].view(np.uint32))
            for name in ("x", "y", "z", "confidence"):
                np.testing.assert_allclose(points[name], same[name], **SAME)


def test_windows_are_the_same(live: Inbox, offline: dict[str, list[Any]]) -> None:
    for one, other in zip(live["/da3/window"], offline["/da3/window"], strict=True):
        assert (one.header, one.model, one.scale_source) == (other.header, other.model, other.scale_source)
        np.testing.assert_allclose(one.scale_m_per_unit, other.scale_m_per_unit, rtol=1e-6)
        np.testing.assert_allclose(one.scale_deviation, other.scale_deviation, rtol=1e-6)
        np.testing.assert_allclose(one.alignment_residual, other.alignment_residual, atol=1e-6)
        for view, same in zip(one.views, other.views, strict=True):
            assert (view.header, view.camera_info.header) == (same.header, same.camera_info.header)
            assert view.intrinsics_source == same.intrinsics_source == DepthView.INTRINSICS_KNOWN
            np.testing.assert_allclose(numbers(view.camera_in_map), numbers(same.camera_in_map), **SAME)
            assert_same_image(view.depth, same.depth)
            assert_same_image(view.confidence, same.confidence)
