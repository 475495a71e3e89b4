# SPDX-License-Identifier: Apache-2.0
"""A folder of images as a camera: `python -m da3_ros.demo.image_folder --ros-args -p folder:=photos`.

camera/image_raw    each image once, in natural order and in the size of the first; no calibration is known
"""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from da3_core.errors import InputError
from da3_core.options import option
from da3_core.preprocessing import decode
from da3_core.ros_data import values
from da3_core.sources.images import find_images
from da3_core.synthetic.bag import OPTICAL_FRAME
from da3_ros.messages import packed
from da3_ros.synthetic_camera import LAST_DELIVERY, RELIABLE, declare

POLL_S = 0.05


@dataclass(frozen=True)
class PictureSettings:
    """The parameters, all read at the start."""

    folder: str = option("", "Where the images are.")
    rate_hz: float = option(4.0, "Images per second.", low=0.1, high=1000.0)
    longer_side: int = option(640, "Of the published images at most, pixels.", low=16, high=8192)
    max_frames: int = option(0, "Publish only so many, the first ones; 0: all.", low=0, high=2**31 - 1)
    wait_for_subscribers: int = option(0, "Begin when the image has so many subscribers.", low=0, high=1000)


def load_pictures(folder: Path, longer_side: int, max_frames: int = 0) -> list[np.ndarray]:
    """`(H, W, 3)` uint8 RGB, upright, all of the size of the first: others are scaled to cover it and cropped.

    `longer_side` is the most that the first may have.

    Raises:
        InputError: no folder, no images in it, or one that cannot be read.
    """
    size, pictures = None, []
    for path in find_images(folder)[: max_frames or None]:
        try:
            picture = decode(path, apply_exif=True)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        size = size or _scaled(picture, min(1, longer_side / max(picture.shape[:2])))
        pictures.append(_covering(picture, size))
    return pictures


def _scaled(picture: np.ndarray, scale: float) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return max(1, round(height * scale)), max(1, round(width * scale))


def _covering(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = np.maximum(_scaled(picture, scale), size)
    kernel = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, (int(width), int(height)), interpolation=kernel)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.ascontiguousarray(resized[top : top + size[0], left : left + size[1]])


def publish(node: Node, settings: PictureSettings) -> None:
    """All images, as soon as somebody looks.

    Raises:
        InputError: as `load_pictures`.
    """
    pictures = load_pictures(Path(settings.folder), settings.longer_side, settings.max_frames)
    publisher = node.create_publisher(Image, "camera/image_raw", RELIABLE)
    while publisher.get_subscription_count() < settings.wait_for_subscribers:
        time.sleep(POLL_S)
    for picture in pictures:
        header = values.header(node.get_clock().now().nanoseconds, OPTICAL_FRAME)
        publisher.publish(packed(values.image(header, picture, "rgb8")))
        time.sleep(1 / settings.rate_hz)
    publisher.wait_for_all_acked(LAST_DELIVERY)


def main(args: list[str] | None = None) -> None:
    """Publish every image, or until interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node, status = Node("pictures"), 0
    try:
        publish(node, declare(node, PictureSettings))
    except InputError as refusal:
        get_logger("pictures").fatal(str(refusal))
        status = 1
    except KeyboardInterrupt:
        pass
    node.destroy_node()
    rclpy.try_shutdown()
    sys.exit(status)


if __name__ == "__main__":
    main()
