# SPDX-License-Identifier: Apache-2.0
"""A node that uses the depth of the node `da3` beside the image and the camera that it belongs to.

`python examples/depth_listener.py`, with ROS 2 sourced; `--ros-args -r __ns:=/front` listens elsewhere. Every output of
a view has the stamp of its image, so equal stamps belong together, and nothing has to be guessed.
"""

import sys
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

TOPICS = {"depth/image": Image, "image_rect": Image, "depth/camera_info": CameraInfo}
WAITING = 20  # stamps for which something is still to come


class DepthListener(Node):
    def __init__(self) -> None:
        super().__init__("depth_listener")
        self.waiting: OrderedDict[tuple[int, int], dict[str, Any]] = OrderedDict()
        for topic, kind in TOPICS.items():
            self.create_subscription(
                kind, f"da3/{topic}", lambda message, topic=topic: self.receive(topic, message), 10
            )

    def receive(self, topic: str, message: Any) -> None:
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        together = self.waiting.setdefault(stamp, {})
        together[topic] = message
        if len(together) == len(TOPICS):
            del self.waiting[stamp]
            self.use(together["depth/image"], together["image_rect"], together["depth/camera_info"])
        while len(self.waiting) > WAITING:
            self.waiting.popitem(last=False)

    def use(self, depth_image: Image, image: Image, info: CameraInfo) -> None:
        depth = np.frombuffer(depth_image.data, np.float32).reshape(depth_image.height, depth_image.width)
        row, column = depth.shape[0] // 2, depth.shape[1] // 2
        z = depth[row, column]  # NaN where it is unknown, infinite in the sky
        x = (column - info.k[2]) / info.k[0] * z if info.k[0] else float("nan")
        self.get_logger().info(f"{image.width} x {image.height}: in the middle {z:.2f} ahead, {x:.2f} to the right")


def main() -> None:
    rclpy.init(args=sys.argv)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(DepthListener())


if __name__ == "__main__":
    main()
