# SPDX-License-Identifier: Apache-2.0
"""A camera that walks through the synthetic room for ever, with the truth beside its images.

camera/image_raw, camera/image_raw/compressed, camera/camera_info   what a camera driver publishes
camera/depth, ground_truth/pose                                     32FC1 metres; the optical frame in `world`
/tf_static, and /tf if wanted                                       world -> camera_link -> camera_optical_frame
"""

import logging
import signal
import sys
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions, install_signal_handlers
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.options import option
from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info
from da3_core.ros_data.conventions import OPTICAL_TO_MAP
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.bag import CAMERA_FRAME, OPTICAL_FRAME, WORLD_FRAME
from da3_ros.logs import RosLogHandler
from da3_ros.messages import packed
from da3_ros.parameters import OF_EVERY_NODE, table_of
from da3_ros.rclpy_private import given_parameters

RELIABLE = QoSProfile(depth=10)  # also serves best-effort subscribers
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LAST_DELIVERY = Duration(seconds=2)

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class CameraSettings:
    """The parameters, all read at the start."""

    rate_hz: float = option(30.0, "Images per second.", low=0.1, high=1000.0)
    width: int = option(640, "Image width, pixels.", low=16, high=4096)
    height: int = option(480, "Image height, pixels.", low=16, high=4096)
    frames: int = option(60, "Images of one walk around the room.", low=1, high=10_000)
    seed: int = option(0, "Of the images on walls and furniture.", low=0, high=2**31 - 1)
    loop: bool = option(True, "Walk again after the last frame; false: end there.")
    max_frames: int = option(0, "End after so many images; 0: never.", low=0, high=2**31 - 1)
    wait_for_subscribers: int = option(0, "Begin when the image has so many subscribers.", low=0, high=1000)
    compressed: bool = option(True, "Publish JPEG images too.")
    publish_tf: bool = option(
        False, "Publish world -> camera_link too; the live node gives the same camera a place in its map."
    )


@dataclass(frozen=True, eq=False)
class Shot:
    """The messages of one frame, ready but for the stamp of the headers they share."""

    image: Image
    compressed: CompressedImage | None
    depth: Image
    pose: PoseStamped
    transform: TFMessage


class SyntheticCamera(Node):
    """Publishes one frame per tick of its timer, all of them packed before the first.

    `finished` is done after the last frame.

    Raises:
        InputError: a parameter that does not exist or has a value that is not allowed.
    """

    def __init__(self) -> None:
        super().__init__("synthetic_camera")
        logging.getLogger("da3_core").addHandler(RosLogHandler(self.get_logger()))
        logging.getLogger("da3_core").setLevel(logging.INFO)
        try:
            settings = declare(self, CameraSettings)
        except InputError:
            self.destroy_node()  # left to the end of the interpreter, its threads may never end
            raise
        walk = room_walk(settings.frames, (settings.height, settings.width), seed=settings.seed)

        self._header, self._world_header = Header(frame_id=OPTICAL_FRAME), Header(frame_id=WORLD_FRAME)
        self._camera_info = packed(camera_info(self._header, walk.intrinsics, walk.size))
        self._shots = [self._pack(walk, frame, settings.compressed) for frame in range(len(walk))]
        once_around = 0 if settings.loop else len(walk)
        self._last = min(filter(None, (settings.max_frames, once_around)), default=0)
        self._sent = 0
        self._wait_for_subscribers = settings.wait_for_subscribers
        self.finished: Future[None] = Future()

        self._image = self.create_publisher(Image, "camera/image_raw", RELIABLE)
        self._compressed = self.create_publisher(CompressedImage, "camera/image_raw/compressed", RELIABLE)
        self._info = self.create_publisher(CameraInfo, "camera/camera_info", RELIABLE)
        self._depth = self.create_publisher(Image, "camera/depth", RELIABLE)
        self._pose = self.create_publisher(PoseStamped, "ground_truth/pose", RELIABLE)
        self._tf = self.create_publisher(TFMessage, "/tf", QoSProfile(depth=100)) if settings.publish_tf else None
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        header = values.header(self.get_clock().now().nanoseconds, CAMERA_FRAME)
        self._tf_static.publish(packed(values.transform(header, OPTICAL_FRAME, OPTICAL_TO_MAP)))
        self.create_timer(1 / settings.rate_hz, self._tick)
        size, topic = f"{settings.width}x{settings.height}", self._image.topic_name
        self.get_logger().info(f"publishing {size} images at {settings.rate_hz:g} Hz on {topic}")

    def _pack(self, walk: Walk, frame: int, compressed: bool) -> Shot:
        camera_to_world = walk.camera_to_world[frame]
        link_to_world = camera_to_world @ invert_rigid(OPTICAL_TO_MAP)
        return Shot(
            image=packed(values.image(self._header, walk.images[frame], "rgb8")),
            compressed=_jpeg_message(self._header, walk.images[frame]) if compressed else None,
            depth=packed(values.image(self._header, walk.depth_m[frame], "32FC1")),
            pose=packed(values.pose_stamped(self._world_header, camera_to_world)),
            transform=packed(values.transform(self._world_header, CAMERA_FRAME, link_to_world)),
        )

    def _tick(self) -> None:
        if self._sent == 0 and self._image.get_subscription_count() < self._wait_for_subscribers:
            return
        shot = self._shots[self._sent % len(self._shots)]
        self._header.stamp = self._world_header.stamp = self.get_clock().now().to_msg()
        try:
            self._publish(shot)
        except RuntimeError:  # RCLError: a stuck reliable reader, so that the middleware takes no more; or the end
            if self.context.ok():
                self.get_logger().warning("a frame is dropped, a subscriber is too slow", throttle_duration_sec=5.0)
        self._sent += 1
        if self._sent == self._last:
            self._image.wait_for_all_acked(LAST_DELIVERY)
            self.finished.set_result(None)

    def _publish(self, shot: Shot) -> None:
        """The truth first, so that it is there when the image arrives."""
        if self._tf:
            self._tf.publish(shot.transform)
        self._pose.publish(shot.pose)
        self._depth.publish(shot.depth)
        self._info.publish(self._camera_info)
        if shot.compressed:
            self._compressed.publish(shot.compressed)
        self._image.publish(shot.image)


def declare(node: Node, kind: type[Settings]) -> Settings:
    """Declare the parameters with what the command line and files say; from then on they are read-only.

    Raises:
        InputError: one that does not exist or has a value that is not allowed.
    """
    table = table_of(kind)
    given = {name: value for name, value in given_parameters(node).items() if not name.startswith(OF_EVERY_NODE)}
    if unknown := sorted(given.keys() - table.keys()):
        raise InputError(f"There is no parameter {unknown[0]!r}; the camera has {', '.join(table)}.")
    values = {name: line.checked(given.get(name, line.default)) for name, line in table.items()}
    for name, value in values.items():
        descriptor = ParameterDescriptor(description=f"{table[name].description} {table[name].limits}", read_only=True)
        node.declare_parameter(name, value, descriptor, ignore_override=True)
    return kind(**values)


def _jpeg_message(header: Header, image: np.ndarray) -> CompressedImage:
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].data)
    return message


def main(args: list[str] | None = None) -> None:
    """Publish until interrupted, or until the last frame that was asked for."""
    # Rendering may take half a minute: both signals end it as Ctrl-C does. Then rclpy's handlers wake the executor.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    status = 0
    try:
        camera = SyntheticCamera()
        install_signal_handlers()
        rclpy.spin_until_future_complete(camera, camera.finished)
    except InputError as refusal:
        get_logger("synthetic_camera").fatal(str(refusal))
        status = 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    sys.exit(status)  # not within the exception, which holds what it was raised in


if __name__ == "__main__":
    main()
