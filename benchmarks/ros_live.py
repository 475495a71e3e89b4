# SPDX-License-Identifier: Apache-2.0
"""Images per second and latency of the live node with a model that costs nothing: what is left is ROS.

`python benchmarks/ros_live.py [--out FILE.json]`: camera, node and listener are three processes with the shared-memory
profile. The camera sends more images than the node can take. Latency is from the camera's stamp, the moment it sends,
until the listener has the depth of that image.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
import rclpy
import report
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info
from da3_core.ros_data.conventions import stamp_ns
from da3_ros.demo.domain import graph_environment
from da3_ros.messages import packed

DOMAIN, WARM_S, MEASURED_S = 87, 4.0, 8.0
ROWS = {  # size of the image, what the camera sends in a second, and what is listened to beside depth
    "640x480, depth, confidence, camera_info": ((480, 640), 90.0, ("confidence/image", "depth/camera_info")),
    "640x480, with a cloud of 300,000 points": ((480, 640), 90.0, ("confidence/image", "depth/camera_info", "points")),
    "1920x1080, depth, confidence, camera_info": ((1080, 1920), 30.0, ("confidence/image", "depth/camera_info")),
}
TYPES = {"confidence/image": Image, "depth/camera_info": CameraInfo, "points": PointCloud2}
PARAMETERS = ("window.size:=1", "points.confidence_percentile:=0.0", "points.edge_threshold:=0.0", "tf.mode:=none")


def run_camera(height: int, width: int, rate_hz: float) -> None:
    """Send images and their camera at a steady rate, for ever."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("camera")
    images, infos = node.create_publisher(Image, "image", 5), node.create_publisher(CameraInfo, "camera_info", 5)
    header = values.header(0, "camera")
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    intrinsics = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    image, info = packed(values.image(header, pixels, "rgb8")), packed(camera_info(header, intrinsics, (height, width)))
    next_s = time.monotonic()
    while True:
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        infos.publish(info)
        images.publish(image)
        next_s = max(next_s + 1 / rate_hz, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))


def run_node() -> None:
    """The node with a model whose answer is there before it is asked."""
    from da3_core.options import InferenceOptions
    from da3_core.prediction import Prediction
    from da3_ros.node import main

    class Abilities:
        name, has_poses, has_gaussians = "free", False, False

    class FreeModel:
        preset = Abilities()

        def check(self, options: InferenceOptions) -> InferenceOptions:
            return options

        def predict(self, images: Any, *arguments: Any, **options: Any) -> Prediction:
            height, width = images[0].shape[:2]
            depth = np.full((1, height, width), 2.0, np.float32)
            return Prediction(
                depth=depth,
                is_metric=1,
                conf=depth,
                processed_images=np.asarray(images[0])[None],
                processed_from_original=np.eye(3)[None],
            )

    main(["--ros-args", *(word for each in PARAMETERS for word in ("-p", each))], lambda settings: FreeModel())


def measure(size: tuple[int, int], camera_hz: float, others: tuple[str, ...]) -> dict[str, float]:
    """One row: images per second of depth, and its latency."""

    def child(*arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, __file__, *arguments], stderr=subprocess.DEVNULL)

    children = [child("--node"), child("--camera", *map(str, (*size, camera_hz)))]
    rclpy.init()
    listener = rclpy.create_node("listener")
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    arrivals: list[tuple[float, float]] = []

    def on_depth(message: Image) -> None:
        age_s = 1e-9 * (listener.get_clock().now().nanoseconds - stamp_ns(message.header.stamp))
        arrivals.append((time.monotonic(), age_s))

    listener.create_subscription(Image, "da3/depth/image", on_depth, 10)
    for name in others:
        listener.create_subscription(TYPES[name], f"da3/{name}", lambda message: None, 10)
    try:
        while not arrivals:
            executor.spin_once(timeout_sec=1.0)
        begin_s = time.monotonic() + WARM_S
        while time.monotonic() < begin_s + MEASURED_S:
            executor.spin_once(timeout_sec=0.1)
    finally:
        for each in children:
            each.send_signal(signal.SIGINT)  # one that is killed leaves its shared memory behind
        for each in children:
            each.wait(30)
        rclpy.shutdown()
    ages_s = [age_s for arrived_s, age_s in arrivals if arrived_s >= begin_s]
    p50, p95 = np.percentile(ages_s, (50, 95)) * 1e3
    return {"images_per_s": len(ages_s) / MEASURED_S, "latency_p50_ms": float(p50), "latency_p95_ms": float(p95)}


def main() -> None:
    if "--node" in sys.argv:
        run_node()
    elif "--camera" in sys.argv:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
        with suppress(KeyboardInterrupt):
            run_camera(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        run_all()


def run_all() -> None:
    arguments = report.arguments(__doc__, repeats=1)
    os.environ.update(graph_environment(DOMAIN))
    rows = {name: measure(*row) for name, row in ROWS.items()}
    print("| | images/s | latency p50, ms | p95, ms |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['images_per_s']:.1f} | {row['latency_p50_ms']:.0f} | {row['latency_p95_ms']:.0f} |")
    report.publish("ros_live", arguments.out, rows=rows)


if __name__ == "__main__":
    main()
