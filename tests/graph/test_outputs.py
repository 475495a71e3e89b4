# SPDX-License-Identifier: Apache-2.0
"""Everything the node publishes over one session against the true room: to millimetres, once its scale is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from da3_ros.msg import DepthWindow
from footage import CAMERA_FRAME, Footage, matrix
from harness import Graph, Inbox, stamp_ns, unpack
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy
from sensor_msgs.msg import Image

from da3_core.ros_data.outputs import OUTPUTS, TRANSFORM, VIEW_OUTPUTS
from da3_core.synthetic import Walk
from da3_ros.messages import message_class

WINDOW = 4
MILLIMETRE = 1e-3
TOPICS = {
    each.topic("/da3"): message_class(each.type) for each in OUTPUTS if not each.name.startswith("sky/")
}  # an indoor walk
LATCHED = {each.topic("/da3") for each in OUTPUTS if each.latched}
PER_FRAME = [each.topic("/da3") for each in VIEW_OUTPUTS if each.topic("/da3") in TOPICS and each is not TRANSFORM]


@dataclass(frozen=True, eq=False, repr=False)
class ObservedSession:
    """What came out of one session over the whole walk, and what went in."""

    inbox: Inbox
    footage: Footage
    walk: Walk
    qos: dict[str, Any]

    def frame(self, message: Any) -> int:
        """The frame of the walk that a message is about, by its stamp."""
        return self.footage.frame_at[stamp_ns(message)]

    @property
    def unit(self) -> float:
        """Map units per metre: the one number that this model leaves open, from the first depth image alone."""
        first = self.inbox["/da3/depth/image"][0]
        return float(np.median(pixels(first, np.float32) / self.walk.depth_m[self.frame(first)]))

    def camera_to_map(self, frame: int) -> np.ndarray:
        """The true pose in a map that starts at the first camera, x forward, y left, z up as that camera sees them."""
        camera_to_first = np.linalg.inv(self.walk.camera_to_world[0]) @ self.walk.camera_to_world[frame]
        map_from_first = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
        return map_from_first @ camera_to_first

    def transforms(self) -> dict[int, np.ndarray]:
        """Camera in the map as /tf says it, in metres, by frame."""
        found = {}
        for message in self.inbox["/tf"]:
            for transform in message.transforms:
                assert (transform.header.frame_id, transform.child_frame_id) == ("da3_map", CAMERA_FRAME)
                pose = matrix(transform.transform.translation, transform.transform.rotation)
                pose[:3, 3] /= self.unit
                found[self.frame(transform)] = pose
        return found


def pixels(image: Image, dtype: type, channels: int = 1) -> np.ndarray:
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    assert image.step == image.width * channels * np.dtype(dtype).itemsize
    return np.frombuffer(image.data, dtype).reshape(shape)


@pytest.fixture(scope="module")
def session(graph: Graph, footage: Footage, walk: Walk) -> Iterator[ObservedSession]:
    """The whole walk through one node: 24 frames, 21 windows of 4."""
    parameters = {
        "every_frame": "true",
        "window.size": WINDOW,
        "process_res": walk.images.shape[2],
        "points.confidence_percentile": 0.0,
        "points.edge_threshold": 0.0,
        "base_frame": CAMERA_FRAME,
    }
    graph.start_node(parameters)
    camera = graph.camera()
    with graph.listen(TOPICS) as inbox:
        images = footage.images(range(len(walk.images)))
        infos = [footage.camera_info(image) for image in images]
        for image, info in zip(images, infos, strict=True):
            camera.publish("/camera_info", info)
            camera.publish("/image", image)
        graph.wait_for(
            "outputs of every frame",
            lambda: (
                all(len(set(inbox.stamps(topic))) == len(images) for topic in PER_FRAME)
                and len(inbox["/da3/window"]) == len(images) - WINDOW + 1
                and inbox["/da3/path"]
                and len(inbox["/da3/path"][-1].poses) == len(images)
            ),
        )
        qos = {topic: graph.node.get_publishers_info_by_topic(topic)[0] for topic in TOPICS}
        yield ObservedSession(inbox, footage, walk, qos)


def test_endpoints_are_reliable_and_of_the_documented_types(session: ObservedSession) -> None:
    for topic, kind in TOPICS.items():
        info = session.qos[topic]
        assert info.topic_type == f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE, topic
        expected = DurabilityPolicy.TRANSIENT_LOCAL if topic in LATCHED else DurabilityPolicy.VOLATILE
        assert info.qos_profile.durability == expected, topic
        assert info.qos_profile.history in (HistoryPolicy.KEEP_LAST, HistoryPolicy.UNKNOWN), topic


def test_every_output_carries_the_stamp_and_frame_of_its_image(session: ObservedSession) -> None:
    sent = sorted(session.footage.frame_at)
    for topic in PER_FRAME:
        assert session.inbox.stamps(topic) == sent, topic
        frame_id = "da3_map" if topic in ("/da3/pose", "/da3/odometry") else CAMERA_FRAME
        assert {message.header.frame_id for message in session.inbox[topic]} == {frame_id}, topic


def test_depth_is_the_true_depth_of_that_frame(session: ObservedSession) -> None:
    for message in session.inbox["/da3/depth/image"]:
        assert message.encoding == "32FC1"
        depth_m = pixels(message, np.float32) / session.unit
        np.testing.assert_allclose(depth_m, session.walk.depth_m[session.frame(message)], atol=MILLIMETRE)


def test_depth_in_millimetres_is_the_same_depth(session: ObservedSession) -> None:
    for depth, depth_mm in zip(session.inbox["/da3/depth/image"], session.inbox["/da3/depth/image_raw"], strict=True):
        assert depth_mm.encoding == "16UC1"
        np.testing.assert_allclose(pixels(depth_mm, np.uint16), pixels(depth, np.float32) * 1000, atol=0.5001)


def test_compressed_depth_is_the_same_depth(session: ObservedSession) -> None:
    for name, head in (("compressed", 0), ("compressedDepth", 12)):
        packed = session.inbox[f"/da3/depth/image/{name}"]
        for message, raw in zip(packed, session.inbox["/da3/depth/image_raw"], strict=True):
            decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8)[head:], cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(decoded, pixels(raw, np.uint16))


def test_camera_info_is_that_of_the_camera(session: ObservedSession) -> None:
    height, width = session.walk.depth_m.shape[1:]
    expected = session.walk.intrinsics - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    siblings = ("depth/camera_info", "camera_info", "confidence/camera_info")
    for info in (info for name in siblings for info in session.inbox[f"/da3/{name}"]):
        assert (info.height, info.width, info.distortion_model, any(info.d)) == (height, width, "plumb_bob", False)
        np.testing.assert_allclose(np.reshape(info.k, (3, 3)), expected, rtol=1e-6)
        np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, :3], expected, rtol=1e-6)


def test_colour_confidence_and_preview_are_aligned_with_depth(session: ObservedSession) -> None:
    for rect, confidence, preview in zip(
        *(session.inbox[f"/da3/{name}"] for name in ("image_rect", "confidence/image", "depth/preview")), strict=True
    ):
        np.testing.assert_array_equal(pixels(rect, np.uint8, 3), session.walk.images[session.frame(rect)])
        assert (rect.encoding, confidence.encoding, preview.encoding) == ("rgb8", "32FC1", "rgb8")
        assert pixels(confidence, np.float32).min() >= 1
        assert preview.height == rect.height
        assert len(np.unique(pixels(preview, np.uint8, 3).reshape(-1, 3), axis=0)) > 20


def test_tf_takes_the_camera_into_the_map(session: ObservedSession) -> None:
    """A point two metres ahead of the lens lands where it truly is; an inverted transform puts it elsewhere."""
    transforms = session.transforms()
    assert len(transforms) == len(session.walk.images)
    ahead = np.array([0.0, 0.0, 2.0, 1.0])
    for frame, camera_to_map in transforms.items():
        expected = session.camera_to_map(frame)
        np.testing.assert_allclose(camera_to_map @ ahead, expected @ ahead, atol=MILLIMETRE)
        np.testing.assert_allclose(camera_to_map[:3, :3], expected[:3, :3], atol=1e-3)


def test_the_trajectory_over_all_windows_is_true(session: ObservedSession) -> None:
    travelled = 0.0
    for message in session.inbox["/da3/pose"]:
        frame = session.frame(message)
        position = matrix(message.pose.position, message.pose.orientation)[:3, 3] / session.unit
        np.testing.assert_allclose(position, session.camera_to_map(frame)[:3, 3], atol=MILLIMETRE)
        travelled = max(travelled, float(np.linalg.norm(position)))
    assert travelled > 0.5


def test_the_map_is_the_surface_of_the_room(session: ObservedSession) -> None:
    clouds = session.inbox["/da3/map_points"]
    assert [cloud.header.frame_id for cloud in clouds] == ["da3_map"] * 3, "once a second, of 2.4 s"
    points = unpack(clouds[-1])
    in_map = np.stack([points[name] for name in "xyz"], -1) / session.unit
    world_from_map = session.walk.camera_to_world[0] @ np.linalg.inv(
        np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    )
    distance_m = session.walk.room.surface_distance(in_map @ world_from_map[:3, :3].T + world_from_map[:3, 3])
    assert len(points) > 1000
    assert np.percentile(np.abs(distance_m), 90) < 0.01, "but in voxels across an edge"


def test_pose_odometry_path_and_tf_agree(session: ObservedSession) -> None:
    transforms = session.transforms()
    path = session.inbox["/da3/path"][-1]
    assert path.header.frame_id == "da3_map"
    for pose, odometry, of_path in zip(
        session.inbox["/da3/pose"], session.inbox["/da3/odometry"], path.poses, strict=True
    ):
        assert pose.pose == odometry.pose.pose
        place, by_now = (matrix(each.pose.position, each.pose.orientation) for each in (pose, of_path))
        np.testing.assert_allclose(by_now, place, atol=MILLIMETRE, err_msg="an exact model is not corrected by much")
        assert odometry.child_frame_id == CAMERA_FRAME
        assert stamp_ns(of_path) == stamp_ns(pose)
        tf = transforms[session.frame(pose)].copy()
        tf[:3, 3] *= session.unit
        np.testing.assert_allclose(matrix(pose.pose.position, pose.pose.orientation), tf, atol=1e-9)
        covariance = np.reshape(odometry.pose.covariance, (6, 6))
        np.testing.assert_allclose(covariance, covariance.T)
        assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_cloud_lies_on_the_surfaces_of_the_room(session: ObservedSession) -> None:
    """Optical frame, through /tf, into the map, into the world: every point on a wall or an object, in its colour."""
    transforms = session.transforms()
    map_to_world = session.walk.camera_to_world[0] @ np.linalg.inv(session.camera_to_map(0))
    for cloud in session.inbox["/da3/points"][:: WINDOW - 1]:
        frame = session.frame(cloud)
        points = unpack(cloud)
        assert cloud.is_dense
        assert len(points) > 0.9 * session.walk.depth_m[frame].size
        camera = np.stack([points["x"], points["y"], points["z"]], axis=1) / session.unit
        camera_to_world = map_to_world @ transforms[frame]
        world = camera @ camera_to_world[:3, :3].T + camera_to_world[:3, 3]
        assert session.walk.room.surface_distance(world).max() < 2 * MILLIMETRE
        u, v = (
            camera[:, :2] / camera[:, 2:] * session.walk.intrinsics[[0, 1], [0, 1]] + session.walk.intrinsics[:2, 2]
        ).T
        colour = session.walk.images[frame][v.astype(int), u.astype(int)]
        packed = points["rgb"].view(np.uint32)
        np.testing.assert_array_equal(packed >> np.array([[16], [8], [0]]) & 255, colour.T)
        assert points["confidence"].min() >= 1


def test_window_holds_its_views_with_everything_about_them(session: ObservedSession) -> None:
    windows = session.inbox["/da3/window"]
    depths = {stamp_ns(message): message for message in session.inbox["/da3/depth/image"]}
    sent = sorted(session.footage.frame_at)
    for i, window in enumerate(windows):
        assert [stamp_ns(view) for view in window.views] == sent[i : i + WINDOW]
        assert stamp_ns(window) == sent[i + WINDOW - 1]
        assert window.header.frame_id == "da3_map"
        assert (window.scale_source, window.map_segment) == (DepthWindow.SCALE_NONE, windows[0].map_segment)
        assert window.inference_s > 0
        assert np.isnan(window.alignment_residual) == (i == 0)
        assert i == 0 or window.alignment_residual < 1e-3
        for view in window.views:
            frame = session.frame(view)
            assert view.header.frame_id == CAMERA_FRAME
            pose = matrix(view.camera_in_map.position, view.camera_in_map.orientation)
            pose[:3, 3] /= session.unit
            np.testing.assert_allclose(pose, session.camera_to_map(frame), atol=MILLIMETRE)
            depth_m = pixels(view.depth, np.float32) / session.unit
            np.testing.assert_allclose(depth_m, session.walk.depth_m[frame], atol=MILLIMETRE)
            assert (view.camera_info.height, view.camera_info.width) == depth_m.shape
            assert pixels(view.confidence, np.float32).shape == depth_m.shape
        newest = window.views[-1]
        assert newest.depth.data == depths[stamp_ns(newest)].data
    scales = {round(window.scale_m_per_unit, 6) for window in windows}
    assert len(scales) == len(windows)  # the model changes its unit with every call, the map does not
