# SPDX-License-Identifier: Apache-2.0
"""Where cameras are known from elsewhere: poses by /tf, by odometry on a topic, and two cameras on one body."""

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from da3_ros.msg import DepthWindow, MapInfo
from diagnostic_msgs.msg import DiagnosticArray
from footage import FIRST_STAMP_NS, PERIOD_NS, Footage, matrix
from geometry_msgs.msg import PoseStamped, TransformStamped, Vector3
from harness import Camera, Graph, Inbox, newest_status
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, Imu, PointCloud2, PointField
from tf2_msgs.msg import TFMessage

from da3_core.options import InferenceOptions
from da3_core.stream.inference import bind_inference
from da3_core.synthetic import Walk
from da3_core.synthetic.exact import ExactModel

IN_BASE = np.eye(4)
IN_BASE[:3] = [[0, 0, 1, 0.2], [-1, 0, 0, 0.1], [0, -1, 0, 0.3]]
LEFT, RIGHT = 0, 6  # frames of the walk, which are the two cameras of a rig


@pytest.fixture(scope="module")
def camera(graph: Graph, walk: Walk) -> Camera:
    """Of three nodes that start at the same time."""
    common = {"every_frame": "true", "window.size": 2, "process_res": walk.images.shape[2], "tf.timeout_s": 2.0}
    for name, given in {
        "by_tf": {"pose_source": "tf"},
        "by_topic": {"pose_source": "odom_topic", "use_sim_time": "true"},
        "rig": {"cameras": "left,right", "window.size": 1, "watchdog_s": 1.0},
    }.items():
        graph.start_node({**common, **given}, "-r", f"__ns:=/{name}")
    return graph.camera()


def fill(target: Any, rotation: Any, pose: np.ndarray) -> None:
    target.x, target.y, target.z = pose[:3, 3].tolist()
    rotation.x, rotation.y, rotation.z, rotation.w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()


def transforms(stamp_ns: int, *edges: tuple[str, str, np.ndarray]) -> TFMessage:
    message = TFMessage()
    for parent, child, pose in edges:
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = parent
        transform.header.stamp.sec, transform.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        fill(transform.transform.translation, transform.transform.rotation, pose)
        message.transforms.append(transform)
    return message


def base_in_world(walk: Walk, frame: int) -> np.ndarray:
    return walk.camera_to_world[frame] @ np.linalg.inv(IN_BASE)


def odometry(walk: Walk, frame: int, stamp_ns: int) -> Odometry:
    message = Odometry(child_frame_id="base")
    message.header.frame_id = "wheels"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    fill(message.pose.pose.position, message.pose.pose.orientation, base_in_world(walk, frame))
    return message


def stamped(image: Image, stamp_ns: int) -> Image:
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return image


def depth_of(image: Image) -> np.ndarray:
    return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)


def check(inbox: Inbox, namespace: str, walk: Walk) -> None:
    """All of the first three frames, in the metres and the world of the given poses."""
    for frame, pose in enumerate(inbox[f"/{namespace}/da3/pose"]):
        given = matrix(pose.pose.position, pose.pose.orientation)
        np.testing.assert_allclose(given, walk.camera_to_world[frame], atol=1e-6)
    for frame, image in enumerate(inbox[f"/{namespace}/da3/depth/image"]):
        np.testing.assert_allclose(depth_of(image), walk.depth_m[frame], rtol=1e-3)
    assert {window.scale_source for window in inbox[f"/{namespace}/da3/window"]} == {DepthWindow.SCALE_POSES}


def outputs(namespace: str) -> dict[str, type]:
    return {f"/{namespace}/da3/{name}": kind for name, kind in OUTPUTS.items()}


OUTPUTS = {"pose": PoseStamped, "depth/image": Image, "window": DepthWindow}


@pytest.mark.parametrize("namespace", ["by_tf", "by_topic"])
def test_images_wait_for_their_poses_which_are_the_map(
    graph: Graph, camera: Camera, footage: Footage, walk: Walk, namespace: str
) -> None:
    footage.camera_frame = f"{namespace}_optical"
    images = footage.images(range(3))
    stamps = [image.header.stamp.sec * 10**9 + image.header.stamp.nanosec for image in images]
    camera.publish("/tf_static", transforms(0, ("base", footage.camera_frame, IN_BASE)), latched=True, readers=3)

    def tell(frame: int, stamp_ns: int) -> None:
        if namespace == "by_tf":
            camera.publish("/tf", transforms(stamp_ns, ("odom", "base", base_in_world(walk, frame))), readers=3)
        else:
            camera.publish(f"/{namespace}/odom", odometry(walk, frame, stamp_ns))

    if namespace == "by_topic":
        publish_clock(graph, camera, stamps[-1] + 70_000_000)
    tell(0, stamps[0] - PERIOD_NS)
    with graph.listen(outputs(namespace)) as inbox:
        camera.publish(f"/{namespace}/camera_info", footage.camera_info(images[0]))
        camera.publish(f"/{namespace}/image", *images)
        for frame, stamp_ns in enumerate(stamps):
            tell(frame, stamp_ns)
        graph.wait_for("three views", lambda: len(inbox[f"/{namespace}/da3/depth/image"]) == 3)
        graph.wait_for("two windows", lambda: len(inbox[f"/{namespace}/da3/window"]) == 2)
        check(inbox, namespace, walk)


def publish_clock(graph: Graph, camera: Camera, now_ns: int) -> None:
    """Have it be that time for the node by_topic, and stay so; told until it has been heard, as simulators do."""
    clock = Clock()
    clock.clock.sec, clock.clock.nanosec = divmod(now_ns, 1_000_000_000)
    with graph.listen({"/diagnostics": DiagnosticArray}) as inbox:

        def is_heard() -> bool:
            camera.publish("/clock", clock)
            return now_ns in inbox.stamps("/diagnostics")

        graph.wait_for("the time", is_heard)


def test_ages_and_reports_are_told_in_simulated_time(graph: Graph, camera: Camera) -> None:
    """After the two windows of the test before, whose newest images were 170 and 70 ms old."""
    with graph.listen({"/diagnostics": DiagnosticArray}) as inbox:
        output = graph.wait_for("a report", lambda: newest_status(inbox["/diagnostics"], "by_topic/da3: output"))
    values = {each.key: each.value for each in output.values}
    assert (values["views"], values["age p50, ms"], values["age p95, ms"]) == ("3", "120.0", "165.0")


def test_an_image_without_a_pose_is_used_and_said(graph: Graph, camera: Camera, footage: Footage) -> None:
    footage.camera_frame = "by_tf_optical"
    footage.cut()
    name = "by_tf/da3: input"
    with graph.listen({"/by_tf/da3/depth/image": Image, "/diagnostics": DiagnosticArray}) as inbox:
        camera.publish("/by_tf/image", *footage.images([4, 5]))
        graph.wait_for("two views", lambda: len(inbox["/by_tf/da3/depth/image"]) == 2)
        warns = graph.wait_for(
            "a warning",
            lambda: (
                (status := newest_status(inbox["/diagnostics"], name))
                and status.message.startswith("Unconditioned: The transform odom -> base is known from")
                and status
            ),
        )
    assert {each.key: each.value for each in warns.values}["used without a pose"] == "2"


def assert_like_a_bag(walk: Walk, folder: Path, live: Inbox, recorded: list[tuple[str, Any]]) -> None:
    """What `da3 bag` makes of these messages with the same model, which draws the same world and unit for it."""
    pytest.importorskip("rosbags", reason="needs the package rosbags")
    from rosbags.highlevel import AnyReader
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    from da3_core.bag.camera import RecordedCamera
    from da3_core.bag.options import BagOptions
    from da3_core.bag.process import process_bag
    from da3_core.bag.read import BagReader

    with Writer(folder / "in", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for number, (topic, message) in enumerate(recorded):
            kind = type(message).__module__.partition(".")[0] + "/msg/" + type(message).__name__
            connection = writer.add_connection(topic, kind, typestore=get_typestore(Stores.ROS2_JAZZY))
            writer.write(connection, FIRST_STAMP_NS + number, serialize_message(message))
    options = BagOptions(image_topics=("/left/image", "/right/image"), window=1)
    with BagReader(folder / "in") as bag:
        process_bag(
            RecordedCamera(bag, options),
            bind_inference(ExactModel(walk), InferenceOptions(process_res=walk.images.shape[2])),
            *(options, folder / "out", "mcap"),
            model_name="auto",
            advance=lambda count: None,
            stop=lambda: False,
            on_result=lambda result, session: None,
        )
    names = {topic.removeprefix("/rig"): topic for topic in live if topic != "/tf" and "window" not in topic}
    with AnyReader([folder / "out"]) as reader:
        compared = [each for each in reader.connections if each.topic in names]
        assert {each.topic for each in compared} == set(names)
        for connection, _, raw in reader.messages(compared):
            (ours,) = live[names[connection.topic]]
            theirs = deserialize_message(raw, type(ours))
            assert ours.header.stamp == theirs.header.stamp
            if isinstance(ours, Image):
                assert ours.header == theirs.header
                np.testing.assert_allclose(depth_of(ours), depth_of(theirs), rtol=1e-6)
            else:
                places = (matrix(each.pose.position, each.pose.orientation) for each in (ours, theirs))
                np.testing.assert_allclose(*places, rtol=1e-6, atol=1e-9)


def test_a_rig_has_the_metres_of_its_mounting_and_is_like_that_of_a_bag(
    graph: Graph, camera: Camera, footage: Footage, walk: Walk, tmp_path: Path
) -> None:
    left_to_right = np.linalg.inv(walk.camera_to_world[LEFT]) @ walk.camera_to_world[RIGHT]
    mounting = [("body", "left_lens", IN_BASE), ("body", "right_lens", IN_BASE @ left_to_right)]
    recorded: list[tuple[str, Any]] = [("/tf_static", transforms(0, *mounting))]
    camera.publish(*recorded[0], latched=True, readers=3)
    stamp_ns, images = FIRST_STAMP_NS, {}
    for name, frame, delay_ns in (("left", LEFT, 0), ("right", RIGHT, 3_000_000)):
        footage.camera_frame = f"{name}_lens"
        images[name] = stamped(footage.images([frame])[0], stamp_ns + delay_ns)
    topics: dict[str, type] = {f"/rig/da3/{name}/depth/image": Image for name in images}
    topics |= {f"/rig/da3/{name}/pose": PoseStamped for name in images} | {"/rig/da3/window": DepthWindow}
    with graph.listen({**topics, "/tf": TFMessage}) as inbox:
        for name, image in images.items():
            recorded += [(f"/{name}/camera_info", footage.camera_info(image)), (f"/{name}/image", image)]
            for topic, message in recorded[-2:]:
                camera.publish(f"/rig{topic}", message)
        graph.wait_for("both cameras", lambda: all(inbox[topic] for topic in inbox))
        for name, frame in (("left", LEFT), ("right", RIGHT)):
            (depth,) = inbox[f"/rig/da3/{name}/depth/image"]
            assert depth.header == images[name].header
            np.testing.assert_allclose(depth_of(depth), walk.depth_m[frame], rtol=1e-3)
        (left,), (right,) = inbox["/rig/da3/left/pose"], inbox["/rig/da3/right/pose"]
        left_in_map, right_in_map = (matrix(each.pose.position, each.pose.orientation) for each in (left, right))
        np.testing.assert_allclose(np.linalg.inv(left_in_map) @ right_in_map, left_to_right, atol=1e-4)
        (window,) = inbox["/rig/da3/window"]
        assert window.scale_source == DepthWindow.SCALE_POSES
        assert_like_a_bag(walk, tmp_path, inbox, recorded)
        edges = [(each.header.frame_id, each.child_frame_id) for message in inbox["/tf"] for each in message.transforms]
        assert edges == [("rig/da3_map", "body")], "one body has one parent"
    footage.camera_frame = "left_lens"
    alone = [stamped(image, stamp_ns + k * PERIOD_NS) for k, image in enumerate(footage.images([LEFT] * 3), 1)]
    with graph.listen({f"/rig/da3/{name}/depth/image": Image for name in images}) as inbox:
        for image in alone:
            camera.publish("/rig/left/image", image)
            time.sleep(0.7)  # longer than watchdog_s, twice
        graph.wait_for("what the rig sees without a camera", lambda: inbox["/rig/da3/left/depth/image"])
        assert not inbox["/rig/da3/right/depth/image"]


def test_beside_odometry_only_the_map_moves(graph: Graph, camera: Camera, footage: Footage, walk: Walk) -> None:
    """Odometry that drifts: map -> odom takes it up, until another localiser takes over."""
    given = {"every_frame": "true", "window.size": 2, "process_res": walk.images.shape[2]}
    given |= {"tf.mode": "map_to_odom", "odom_frame": "slam_odom", "tf.ahead_s": 0.5}
    graph.start_node(given, "-r", "__ns:=/slam", "--", "--own-world")
    footage.camera_frame = "slam_optical"
    images = footage.images(range(4))
    mounting = transforms(0, ("slam_base", footage.camera_frame, IN_BASE))
    names = {"/slam/da3/pose": PoseStamped, "/tf": TFMessage, "/diagnostics": DiagnosticArray}
    with graph.listen(names) as inbox:
        camera.publish("/tf_static", mounting, latched=True, readers=4)
        in_odom = {}
        for frame, image in enumerate(images):
            stamp_ns = image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
            drift = np.eye(4)
            drift[:2, 3] = 0.05 * frame, -0.02 * frame
            in_odom[stamp_ns] = drift @ walk.camera_to_world[frame]
            base = in_odom[stamp_ns] @ np.linalg.inv(IN_BASE)
            camera.publish("/tf", transforms(stamp_ns, ("slam_odom", "slam_base", base)), readers=5)
        camera.publish("/slam/camera_info", footage.camera_info(images[0]))

        def edges() -> dict[int, np.ndarray]:
            sent = [each for message in inbox["/tf"] for each in message.transforms]
            assert {each.child_frame_id for each in sent if each.header.frame_id == "slam/da3_map"} <= {"slam_odom"}
            return {
                each.header.stamp.sec * 10**9 + each.header.stamp.nanosec: matrix(
                    each.transform.translation, each.transform.rotation
                )
                for each in sent
                if each.header.frame_id == "slam/da3_map"
            }

        camera.publish("/slam/image", *images[:3])
        graph.wait_for("three poses", lambda: len(inbox["/slam/da3/pose"]) == 3 and len(edges()) == 3)
        for pose in inbox["/slam/da3/pose"]:
            stamp_ns = pose.header.stamp.sec * 10**9 + pose.header.stamp.nanosec
            through_odom = edges()[stamp_ns + 500_000_000] @ in_odom[stamp_ns]
            np.testing.assert_allclose(through_odom, matrix(pose.pose.position, pose.pose.orientation), atol=1e-5)

        other = transforms(1, ("slam/da3_map", "slam_odom", np.eye(4)))
        camera.publish("/tf", other, readers=5)
        camera.publish("/slam/image", images[3])
        graph.wait_for("the last pose", lambda: len(inbox["/slam/da3/pose"]) == 4)
        graph.wait_for(
            "a word about the other",
            lambda: (
                (status := newest_status(inbox["/diagnostics"], "slam/da3: map"))
                and "publishes slam/da3_map -> slam_odom on /tf, so this node does not" in status.message
            ),
        )
        assert len(edges()) == 4, "three of the node, one of the other"


def test_a_lidar_says_the_metres_and_an_imu_what_is_up(
    graph: Graph, camera: Camera, footage: Footage, walk: Walk
) -> None:
    """500 points, in a frame of their own that is tied to the camera."""
    given = {"every_frame": "true", "window.size": 2, "process_res": walk.images.shape[2]}
    given |= {"scale.source": "depth_topic", "scale.reference_type": "points", "map.up": "imu", "tf.timeout_s": 20.0}
    graph.start_node(given, "-r", "__ns:=/lidar")
    footage.camera_frame = "lidar_camera"
    images = footage.images(range(3))
    rng, (height, width) = np.random.default_rng(0), walk.size
    x, y = rng.integers(width, size=500), rng.integers(height, size=500)
    rays = np.linalg.solve(walk.intrinsics, np.stack([x + 0.5, y + 0.5, np.ones(500)]))  # (3, P)
    in_lidar = (IN_BASE[:3, :3] @ (rays * walk.depth_m[0][y, x]) + IN_BASE[:3, 3:]).T.astype(np.float32)
    cloud = PointCloud2(height=1, width=500, point_step=12, row_step=6000)
    cloud.header.frame_id, cloud.header.stamp = "lidar_base", images[0].header.stamp
    cloud.fields = [PointField(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")]
    cloud.data.frombytes(in_lidar.tobytes())
    mounting = transforms(0, ("lidar_base", footage.camera_frame, IN_BASE))
    names = {f"/lidar/da3/{name}": kind for name, kind in OUTPUTS.items()}
    with graph.listen(names) as inbox:
        nodes = sum(process.name == "node" for process in graph.processes)
        camera.publish("/tf_static", mounting, latched=True, readers=nodes)
        for _ in range(5):  # as below
            camera.publish("/lidar/camera_info", footage.camera_info(images[0]))
            time.sleep(0.5)
        camera.publish("/lidar/image", *images)
        imu, later = Imu(header=cloud.header), deepcopy(cloud)
        fill(Vector3(), imu.orientation, base_in_world(walk, 0))
        later.header.stamp.sec += 10  # so that nothing is waited for any more
        for topic, message in (("imu", imu), ("reference_depth", cloud)):
            for _ in range(5):  # the first may be lost: who reads the topic may not have found its publisher yet
                camera.publish(f"/lidar/{topic}", message)
                time.sleep(0.5)
        camera.publish("/lidar/reference_depth", later)
        graph.wait_for("two windows", lambda: len(inbox["/lidar/da3/window"]) == 2)
        graph.wait_for("three views", lambda: len(inbox["/lidar/da3/depth/image"]) == 3)
    for image, true_m in zip(inbox["/lidar/da3/depth/image"], walk.depth_m[:3], strict=True):
        np.testing.assert_allclose(depth_of(image), true_m, rtol=1e-3)
    assert {window.scale_source for window in inbox["/lidar/da3/window"]} == {DepthWindow.SCALE_DEPTH}
    for pose, in_world in zip(inbox["/lidar/da3/pose"], walk.camera_to_world, strict=False):
        in_map = matrix(pose.pose.position, pose.pose.orientation)
        np.testing.assert_allclose(in_map[2, :3], in_world[2, :3], atol=1e-4)
    assert graph.latched("/lidar/da3/map_info", MapInfo).up == "imu"
