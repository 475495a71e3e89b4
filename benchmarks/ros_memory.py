# SPDX-License-Identifier: Apache-2.0
"""Memory of the live node over a long stream, and how exact its depth stays.

`python benchmarks/ros_memory.py [--repeats FRAMES] [--out FILE.json]`: images of a known room through a lens with
distortion go over DDS to a node that uses every one of them, with loops, path, clouds and the cloud of the map. 6000
images are ten minutes of a camera of 10 Hz; they are sent as fast as they are used. Depth is compared with the truth.
"""

import os
import signal
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import report
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as Trajectory
from node_memory import PAGE_BYTES
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info
from da3_core.ros_data.conventions import stamp_ns
from da3_core.synthetic import Walk, room_walk
from da3_ros.demo.domain import graph_environment
from da3_ros.messages import packed

DOMAIN, FRAMES, ROWS, WAITING = 86, 6000, 10, 30
PERIOD_NS, START_NS = 100_000_000, 1_700_000_000_000_000_000
PATIENCE_S = 60.0
SIZE = (126, 168)  # of multiples of 14, so that nothing is resized
LENS = np.array([-0.08, 0.02, 0.0, 0.0, 0.0])
PARAMETERS = {"every_frame": "true", "process_res": SIZE[1], "loop.closure": "true", "map_points.always": "true"}
TYPES = {"points": PointCloud2, "path": Trajectory, "map_points": PointCloud2, "odometry": Odometry}


def known_walk() -> Walk:
    return room_walk(frames=24, size=SIZE, seed=5)


def run_node() -> None:
    """The node with a model that knows the room, under another similarity in every window."""
    from da3_core.synthetic.exact import ExactModel
    from da3_ros.node import main

    model = ExactModel(known_walk(), is_metric=True)
    given = [word for name, value in PARAMETERS.items() for word in ("-p", f"{name}:={value}")]
    main(["--ros-args", *given], lambda settings: model)


def distorted(walk: Walk) -> tuple[list[Any], CameraInfo]:
    """Messages of every image as the lens shows it, by OpenCV, and of the camera."""
    info = packed(camera_info(values.header(0, "camera"), walk.intrinsics, walk.size))
    pinhole = np.reshape(info.k, (3, 3))
    info.d = LENS.tolist()
    pixels = np.stack(np.meshgrid(np.arange(walk.size[1]), np.arange(walk.size[0])), -1).reshape(-1, 1, 2)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
    seen = cv2.undistortPointsIter(pixels.astype(np.float64), pinhole, LENS, None, pinhole, criteria)
    seen = seen.reshape(*walk.size, 2).astype(np.float32)
    shown = (cv2.remap(rgb, seen, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for rgb in walk.images)
    return [packed(values.image(values.header(0, "camera"), rgb, "rgb8")) for rgb in shown], info


def resident_mb(process: int) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def main() -> None:
    arguments = report.arguments(__doc__, repeats=FRAMES)
    walk = known_walk()
    images, info = distorted(walk)
    there_and_back = [*range(len(walk)), *range(len(walk) - 2, 0, -1)]
    shown = list(islice(cycle(there_and_back), arguments.repeats))
    node = subprocess.Popen([sys.executable, __file__, "--node"], stderr=subprocess.DEVNULL)
    rclpy.init()
    here = rclpy.create_node("camera_and_listener")
    executor = SingleThreadedExecutor()
    executor.add_node(here)
    errors: dict[int, float] = {}

    def on_depth(message: Image) -> None:
        number = (stamp_ns(message.header.stamp) - START_NS) // PERIOD_NS
        depth = np.frombuffer(message.data, np.float32).reshape(walk.size)
        errors[number] = float(np.nanmax(np.abs(depth / walk.depth_m[shown[number]] - 1)))

    here.create_subscription(Image, "da3/depth/image", on_depth, 100)
    for name, kind in TYPES.items():
        here.create_subscription(kind, f"da3/{name}", lambda message: None, 10)
    image_topic = here.create_publisher(Image, "image", 5)
    info_topic = here.create_publisher(CameraInfo, "camera_info", 5)
    memory_mb: list[tuple[int, float]] = []
    began_s = time.monotonic()
    try:
        while not (image_topic.get_subscription_count() and info_topic.get_subscription_count()):
            executor.spin_once(timeout_sec=0.1)
        for number, frame in enumerate(shown):
            stamp = START_NS + number * PERIOD_NS
            for message in (info, images[frame]):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
            info_topic.publish(info)
            if not number:
                time.sleep(1)  # two topics are not in order with each other
            image_topic.publish(images[frame])
            patient_s = time.monotonic() + PATIENCE_S
            while number + 1 - len(errors) > WAITING and time.monotonic() < patient_s:
                executor.spin_once(timeout_sec=0.1)
            if (number + 1) % max(1, len(shown) // ROWS) == 0:
                memory_mb.append((number + 1, resident_mb(node.pid)))
                print(f"{number + 1} images, {memory_mb[-1][1]:.0f} MB", flush=True)
        patient_s = time.monotonic() + PATIENCE_S
        while len(errors) < len(shown) and time.monotonic() < patient_s:
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(30)
        rclpy.shutdown()
    took_s, worst = time.monotonic() - began_s, sorted(errors.values())
    half = [each for each in memory_mb if each[0] >= len(shown) / 2]
    growth = float(np.polyfit(*zip(*half, strict=True), 1)[0]) * 1000
    print("| images | memory of the node, MB |\n|---|---|")
    print("\n".join(f"| {frames} | {mb:.0f} |" for frames, mb in memory_mb))
    print(f"{len(errors)} of {len(shown)} came out, in {took_s:.0f} s")
    print(f"{growth:.2f} MB more for every 1000 images of the second half")
    print(f"largest error of depth of an image: median {np.median(worst):.2e}, worst {worst[-1]:.2e}")
    report.publish("ros_memory", arguments.out, memory_mb=memory_mb, growth_mb_per_1000=growth, worst=worst[-1])


if __name__ == "__main__":
    if "--node" in sys.argv:
        sys.argv.remove("--node")
        run_node()
    else:
        os.environ.update(graph_environment(DOMAIN))
        main()
