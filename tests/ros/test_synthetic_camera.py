# SPDX-License-Identifier: Apache-2.0
"""The synthetic camera as its subscribers see it: a real process over DDS, compared with the walk it publishes."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Transform
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from da3_core.synthetic import Walk
from da3_ros.demo.shared_memory import remove_abandoned_segments

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
SMALL = ["-p", "width:=320", "-p", "height:=240", "-p", "frames:=24"]  # the walk of the fixture, so it is cached
TYPES = {
    "/camera/image_raw": Image,
    "/camera/image_raw/compressed": CompressedImage,
    "/camera/camera_info": CameraInfo,
    "/camera/depth": Image,
    "/ground_truth/pose": PoseStamped,
    "/tf": TFMessage,
    "/tf_static": TFMessage,
}


class Listener:
    """A node of its own context that collects messages by topic."""

    def __init__(self, domain_id: int) -> None:
        self.context = Context()
        self.context.init(domain_id=domain_id)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.inbox: dict[str, list[Any]] = defaultdict(list)
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for topic, kind in TYPES.items():
            qos = latched if topic == "/tf_static" else qos_profile_sensor_data
            self.node.create_subscription(kind, topic, self.inbox[topic].append, qos)

    def spin_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline, {topic: len(messages) for topic, messages in self.inbox.items()}
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    domain = os.environ.get("ROS_DOMAIN_ID", str(os.getpid() % 90 + 10))
    profile = str(ROOT / "config/fastdds_shm.xml")
    return {
        **os.environ,
        "ROS_DOMAIN_ID": domain,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.fixture
def listener(environment: dict[str, str]) -> Iterator[Listener]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        listener = Listener(int(environment["ROS_DOMAIN_ID"]))
        yield listener
        listener.close()


@pytest.fixture
def start(environment: dict[str, str], walk: Walk) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running = []

    def start_camera(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "da3_ros.synthetic_camera", "--ros-args", *arguments]
        camera = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        running.append(camera)
        return camera

    yield start_camera
    for camera in running:
        camera.kill()
        camera.wait()
    remove_abandoned_segments()


def stamp_ns(message: Any) -> int:
    header = message.transforms[0].header if isinstance(message, TFMessage) else message.header
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def matrix(transform: Transform) -> np.ndarray:
    t, q = transform.translation, transform.rotation
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(), (t.x, t.y, t.z)
    return result


def test_topics_carry_the_walk_and_its_truth(
    start: Callable[..., subprocess.Popen[str]], listener: Listener, walk: Walk
) -> None:
    camera = start(*SMALL, "-p", "rate_hz:=20.0", "-p", "publish_tf:=true")
    by_stamp: dict[str, dict[int, Any]] = {}

    def complete() -> list[int]:
        by_stamp.update({topic: {stamp_ns(m): m for m in listener.inbox[topic]} for topic in TYPES})
        return sorted(set.intersection(*(set(by_stamp[topic]) for topic in TYPES if topic != "/tf_static")))

    listener.spin_until(lambda: len(complete()) >= 30)  # more than once around
    [mounting] = listener.inbox["/tf_static"][0].transforms
    assert (mounting.header.frame_id, mounting.child_frame_id) == ("camera_link", "camera_optical_frame")

    order = []
    for stamp in complete():
        message = {topic: by_stamp[topic][stamp] for topic in TYPES if topic != "/tf_static"}
        pose, [moving] = message["/ground_truth/pose"].pose, message["/tf"].transforms
        position = np.array([pose.position.x, pose.position.y, pose.position.z])
        frame = int(np.linalg.norm(walk.camera_to_world[:, :3, 3] - position, axis=1).argmin())
        order.append(frame)

        image, depth = message["/camera/image_raw"], message["/camera/depth"]
        assert (image.encoding, image.height, image.width, image.step) == ("rgb8", 240, 320, 960)
        assert (depth.encoding, depth.height, depth.width, depth.step) == ("32FC1", 240, 320, 1280)
        np.testing.assert_array_equal(np.frombuffer(image.data, np.uint8).reshape(240, 320, 3), walk.images[frame])
        np.testing.assert_array_equal(np.frombuffer(depth.data, np.float32).reshape(240, 320), walk.depth_m[frame])
        jpeg = np.frombuffer(message["/camera/image_raw/compressed"].data, np.uint8)
        rgb = cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert cv2.absdiff(rgb, walk.images[frame]).mean() < 5

        assert (moving.header.frame_id, moving.child_frame_id) == ("world", "camera_link")
        true = walk.camera_to_world[frame]
        np.testing.assert_allclose(matrix(moving.transform) @ matrix(mounting.transform), true, atol=1e-9)
        orientation = Rotation.from_quat(
            [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w]
        )
        np.testing.assert_allclose(position, true[:3, 3], atol=1e-9)
        np.testing.assert_allclose(orientation.as_matrix(), true[:3, :3], atol=1e-9)
        frames = {topic: message[topic].header.frame_id for topic in TYPES if topic.startswith("/camera")}
        assert set(frames.values()) == {"camera_optical_frame"}
        assert message["/ground_truth/pose"].header.frame_id == "world"

    info = listener.inbox["/camera/camera_info"][0]
    assert (info.height, info.width) == (240, 320)
    np.testing.assert_allclose(np.reshape(info.k, (3, 3)), walk.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    assert 2 * (info.k[2] + 0.5) == 320  # the middle of the image, counted from the centre of the first pixel
    # One after the other and round again; best effort may lose some, never swap two.
    steps = np.diff(order) % 24
    assert (steps == 1).mean() > 0.8
    arrivals = [stamp_ns(m) for m in listener.inbox["/camera/image_raw"]]
    assert arrivals == sorted(set(arrivals))

    camera.send_signal(signal.SIGINT)
    log, _ = camera.communicate(timeout=WAIT_S)
    assert camera.returncode == 0, log
    assert "Traceback" not in log


def test_stamps_are_those_of_a_simulated_clock_to_the_nanosecond(
    start: Callable[..., subprocess.Popen[str]], listener: Listener
) -> None:
    camera = start(*SMALL, "-p", "use_sim_time:=true", "-p", "rate_hz:=10.0", "-p", "max_frames:=5")
    publisher = listener.node.create_publisher(Clock, "/clock", qos_profile_sensor_data)
    published = {0}
    now_ns = 1_700_000_000_123_456_789  # no float holds it

    def advance() -> bool:
        nonlocal now_ns
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(now_ns, 1_000_000_000)
        publisher.publish(clock)
        published.add(now_ns)
        now_ns += 50_000_001
        return camera.poll() is not None

    listener.spin_until(advance)  # it ends by itself after five frames
    assert camera.returncode == 0
    stamps = [stamp_ns(message) for message in listener.inbox["/camera/image_raw"]]
    assert len(stamps) > 2
    assert set(stamps) <= published
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_while_it_renders(start: Callable[..., subprocess.Popen[str]], signal_number: int) -> None:
    camera = start("-p", "seed:=123", "-p", "frames:=1000")  # not in the cache
    assert camera.stdout is not None
    assert any("rendering" in line for line in camera.stdout)
    camera.send_signal(signal_number)
    log, _ = camera.communicate(timeout=WAIT_S)
    assert camera.returncode == 0, log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("rate_hz:=0.0", "The parameter rate_hz is 0.0; allowed is a number from 0.1 to 1000."),
        ("width:=wide", "The parameter width is 'wide'; allowed is a whole number from 16 to 4096."),
        ("size:=640", "There is no parameter 'size'; the camera has rate_hz, width"),
    ],
)
def test_bad_parameters_get_one_sentence(
    start: Callable[..., subprocess.Popen[str]], argument: str, sentence: str
) -> None:
    log, _ = start("-p", argument).communicate(timeout=WAIT_S)
    [line] = [line for line in log.splitlines() if "[rmw_" not in line]
    assert sentence in line
