# SPDX-License-Identifier: Apache-2.0
"""CPU time of the ROS edge for one 640x480 frame: from the image message to an array, and from arrays to messages.

`python benchmarks/ros_edge.py [--out FILE.json]` prints a table of medians and writes JSON. The model, and the work of
the middleware itself, are not part of it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import report
from sensor_msgs.msg import CompressedImage

from da3_core.options import PointOptions
from da3_core.ros_data import conventions, images, values
from da3_core.ros_data.camera_info import camera_info, image_camera
from da3_core.ros_data.point_cloud import point_cloud
from da3_ros.messages import packed

HEIGHT, WIDTH = 480, 640
BUDGET_MS = 15.0
INTRINSICS = np.array([[525.0, 0, WIDTH / 2], [0, 525.0, HEIGHT / 2], [0, 0, 1]])


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, depth and confidence of a floor with boxes before a wall and a strip of sky."""
    rng = np.random.default_rng(0)
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    depth = np.broadcast_to(600.0 / np.maximum(rows - 100, 60), (HEIGHT, WIDTH)).astype(np.float32)
    for x, y, z in ((80, 200, 2.0), (300, 260, 1.5), (480, 180, 3.0)):
        depth[y : y + 140, x : x + 110] = z
    depth[:6] = np.inf
    colour = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    confidence = 1 + rng.gamma(4.0, 1.0, (HEIGHT, WIDTH)).astype(np.float32)
    return colour, depth, confidence


def steps() -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """What the budget counts, and what is shown beside it."""
    colour, depth, confidence = scene()
    header = values.header(1_700_000_000_000_000_001, "camera_optical_frame")
    header_in_map = values.header(1_700_000_000_000_000_001, "da3_map")

    def image(pixels: np.ndarray, encoding: str) -> Any:
        return packed(values.image(header, pixels, encoding))

    rgb, info = image(colour, "rgb8"), packed(camera_info(header, INTRINSICS, (HEIGHT, WIDTH)))
    bayer, yuyv = image(colour[..., 1], "bayer_rggb8"), image(colour[..., :2], "yuv422_yuy2")
    jpeg = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", colour)[1].tobytes())
    every = PointOptions(confidence_percentile=0.0, edge_threshold=0.0)
    plane = np.full_like(depth, 2.0)

    def cloud(depth: np.ndarray, keep: PointOptions) -> object:
        return packed(point_cloud(header, depth, INTRINSICS, rgb=colour, confidence=confidence, keep=keep))

    def pose_messages() -> None:
        camera_to_map = conventions.camera_pose_in_map(np.eye(4))
        packed(values.transform(header_in_map, "camera", camera_to_map))
        packed(values.odometry(header_in_map, "camera", camera_to_map, conventions.unknown_covariance()))
        packed(values.pose_stamped(header_in_map, camera_to_map))

    counted = {
        "rgb8 message to array": lambda: images.image_to_rgb(rgb),
        "camera_info to intrinsics": lambda: image_camera(info, (HEIGHT, WIDTH)),
        "depth with NaN and sky": lambda: conventions.publishable_depth(depth, confidence, np.isinf(depth), 1.5),
        "depth to 32FC1": lambda: image(depth, "32FC1"),
        "confidence to 32FC1": lambda: image(confidence, "32FC1"),
        "camera_info": lambda: packed(camera_info(header, INTRINSICS, (HEIGHT, WIDTH))),
        "pose, odometry, transform": pose_messages,
        "cloud of 307200 points, colour and confidence": lambda: cloud(plane, every),
    }
    others = {
        "cloud with the default filters": lambda: cloud(depth, PointOptions()),
        "organized cloud": lambda: cloud(depth, PointOptions(organized=True)),
        "depth to 16UC1": lambda: image(conventions.depth_in_millimetres(depth), "16UC1"),
        "colour to rgb8": lambda: image(colour, "rgb8"),
        "bayer_rggb8 message to array": lambda: images.image_to_rgb(bayer),
        "yuv422_yuy2 message to array": lambda: images.image_to_rgb(yuyv),
        "jpeg message to array": lambda: images.compressed_to_rgb(jpeg),
    }
    return counted, others


def cpu_ms(step: Callable[[], object], repeats: int) -> float:
    """Median CPU time of all threads of this process."""
    step()
    durations = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        durations.append(time.process_time() - start)
    return 1e3 * statistics.median(durations)


def main() -> None:
    arguments = report.arguments(__doc__, repeats=51)
    cv2.setNumThreads(1)
    counted, others = steps()
    counted_ms = {name: cpu_ms(step, arguments.repeats) for name, step in counted.items()}
    others_ms = {name: cpu_ms(step, arguments.repeats) for name, step in others.items()}
    total_ms = sum(counted_ms.values())

    print(f"| {WIDTH}x{HEIGHT} frame | CPU ms, median of {arguments.repeats} |\n|---|---|")
    for name, value in [*counted_ms.items(), (f"**total** (budget {BUDGET_MS:g})", total_ms), *others_ms.items()]:
        print(f"| {name} | {value:.2f} |")
    report.publish(
        "ros_edge",
        arguments.out,
        size_hw=(HEIGHT, WIDTH),
        cpu_ms=counted_ms,
        beside_cpu_ms=others_ms,
        total_cpu_ms=total_ms,
        budget_cpu_ms=BUDGET_MS,
    )


if __name__ == "__main__":
    main()
