# SPDX-License-Identifier: Apache-2.0
"""One camera's topics: images and their calibration come in and are handed on, undecoded."""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any, cast

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from da3_core.errors import InputError
from da3_core.ros_data.camera_info import ImageCalibration, ImageCamera, stereo_place
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.foreign import as_ros
from da3_core.ros_data.images import (
    RefusedMessage,
    SampleBits,
    check_image,
    compressed_size,
    compressed_to_rgb,
    image_to_rgb,
)
from da3_core.ros_data.told import Told
from da3_core.ros_data.video import VideoDecoder, frame_to_rgb
from da3_core.stream.frame import Frame
from da3_ros.callbacks import Guard
from da3_ros.logs import bounded
from da3_ros.mask_input import Masks
from da3_ros.qos import OVERRIDABLE
from da3_ros.settings import Settings
from da3_ros.window_buffer import WindowBuffer

SENSOR_DATA_DEPTH = 5
VIDEO_DEPTH = 30
VIDEO_TYPES = {  # package and message of each transport
    "ffmpeg": ("ffmpeg_image_transport_msgs", "FFMPEGPacket"),
    "foxglove": ("foxglove_msgs", "CompressedVideo"),
}
LARGE_IMAGE_BYTES = 300_000  # with its default segment of 512 kB, Fast DDS begins to lose best-effort images here
FAST_DDS_SETTINGS = (
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)
LOSSES = (
    "Fast DDS loses large best-effort images with its default shared memory; set FASTDDS_DEFAULT_PROFILES_FILE to the "
    "config/fastdds_shm.xml of this package, for the camera's process too."
)


@dataclass(frozen=True, eq=False)
class CameraImage:
    """An image of a camera that has arrived.

    Attributes:
        name: of the camera, among those of a rig.
        camera_frame: its frame id.
        decode: gives it with what its CameraInfo says.
        stereo_place: see the function of this name; None where it is not known.
    """

    name: str
    stamp_ns: int
    camera_frame: str
    size_hw: tuple[int, int]
    decode: Callable[[], Frame]
    stereo_place: np.ndarray | None


@dataclass(frozen=True)
class CameraState:
    """What is known about a camera.

    Attributes:
        topic: the resolved name of the image topic.
        calibration: where the intrinsics of the newest image come from, in words.
        camera_info: the newest one, or None.
        refused: how many images were used with the model's camera since their CameraInfo could not be, by reason.
        trouble: why the CameraInfo of the newest image is refused, or None.
        silence: what is waited for, in words, once no image has come for `watchdog_s`.
    """

    topic: str
    calibration: str
    camera_info: CameraInfo | None
    silence: str | None
    refused: Mapping[str, int] = field(default_factory=dict)
    trouble: str | None = None


class CameraInput:
    """The subscriptions of one camera, from construction to `close`.

    Attributes:
        topic: the resolved name of the image topic.

    Args:
        buffer: told what is refused.
        deliver: given every image.
        name: of the camera of a rig, before the names of its topics; empty for a single one.
        group: of all callbacks.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        buffer: WindowBuffer,
        guard: Guard,
        deliver: Callable[[CameraImage], object],
        name: str,
        group: MutuallyExclusiveCallbackGroup,
    ) -> None:
        self._deliver, self._name = deliver, name
        self._guard = guard
        self._node, self._settings, self._buffer = node, settings, buffer
        self._logger = node.get_logger()
        self._logged: set[str] = set()
        self._bits = SampleBits(partial(self._warn_once, "sample_bits"))
        self._video: VideoDecoder[Any] = VideoDecoder()
        self._last_arrival_s = time.monotonic()
        self._silence_logged = False
        self._camera_info: CameraInfo | None = None
        self._rect_info: CameraInfo | None = None
        self._calibration = "no image yet"
        self._told = Told()
        self._refused_infos: Counter[str] = Counter()
        self._trouble: str | None = None

        transport = settings.image_transport
        prefix = f"{name}/" if name else ""
        topic = f"{prefix}image" if transport == "raw" else f"{prefix}image/{transport}"
        self.topic: str = node.resolve_topic_name(topic)
        self._camera = ImageCalibration(self.topic, settings.image_is_rectified, settings.rectify.alpha)

        self._masks = Masks(settings.mask.robot_body, self._refuse)
        self._mask_subscription = self._subscribe(Image, f"{prefix}mask", self._masks.take_in, group)

        # Calibration first: where both wait, an image then meets its own CameraInfo.
        self._info_subscription = self._subscribe(CameraInfo, f"{prefix}camera_info", self._on_camera_info, group)
        self._rect_subscription: Subscription[Any] | None = None
        if self._camera.is_rectified:
            beside = self.topic.rsplit("/", 1 if transport == "raw" else 2)[0] + "/camera_info_rect"
            self._rect_subscription = self._subscribe(CameraInfo, beside, self._on_rect_info, group)
        if transport == "raw":
            self._subscription = self._subscribe(Image, topic, self._on_image, group)
        elif transport == "compressed":
            self._subscription = self._subscribe(CompressedImage, topic, self._on_compressed, group)
        else:
            self._subscription = self._subscribe(_video_type(transport), topic, self.on_video, group)
        self._may_lose_images = _may_lose_images(self._subscription.qos_profile)

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[..., None], group: MutuallyExclusiveCallbackGroup
    ) -> "Subscription[Any]":
        if self._settings.every_frame:
            qos = QoSProfile(depth=self._settings.queue.max_frames, reliability=ReliabilityPolicy.RELIABLE)
        else:
            is_video = self._settings.image_transport in VIDEO_TYPES  # of which no piece may be missing
            depth = VIDEO_DEPTH if is_video else SENSOR_DATA_DEPTH
            qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        return self._node.create_subscription(
            kind,
            topic,
            self._guard(callback),
            qos,
            callback_group=group,
            qos_overriding_options=OVERRIDABLE,
        )

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._settings = settings
        self._buffer.apply(settings)

    def close(self) -> None:
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_subscription(self._info_subscription)
        self._node.destroy_subscription(self._mask_subscription)
        if self._rect_subscription:
            self._node.destroy_subscription(self._rect_subscription)

    def report(self, refusal: RefusedMessage) -> None:
        """Log a refusal, once per kind; of CameraInfo, again when the reason is another."""
        if not refusal.kind.startswith("camera_info"):
            self._warn_once(refusal.kind, f"{refusal} (The first of its kind; the rest is counted in /diagnostics.)")
        elif self._told.is_new("camera_info", str(refusal)):
            self._logger.warning(bounded(str(refusal)))

    def state(self) -> CameraState:
        silence_s = time.monotonic() - self._last_arrival_s
        silence = self._describe_silence(silence_s) if silence_s > self._settings.watchdog_s else None
        info = self._rect_info or self._camera_info
        return CameraState(self.topic, self._calibration, info, silence, dict(self._refused_infos), self._trouble)

    def watch(self) -> None:
        """Log what is waited for, once per silence."""
        silence = self.state().silence
        if silence and not self._silence_logged:
            self._logger.warning(silence)
        self._silence_logged = silence is not None

    def _describe_silence(self, silence_s: float) -> str:
        return describe_silence(
            self.topic,
            silence_s,
            self._node.get_publishers_info_by_topic(self.topic),
            self._subscription.qos_profile,
            self._may_lose_images,
        )

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _on_rect_info(self, message: CameraInfo) -> None:
        """Of rectified images alone, so that it goes before the one that they share with raw ones."""
        self._rect_info = message

    def _on_image(self, message: Image) -> None:
        if len(message.data) > LARGE_IMAGE_BYTES and self._may_lose_images:
            self._warn_once("losses", LOSSES)
        to_rgb = partial(image_to_rgb, message, self._bits)
        self._take_in(message.header, partial(_image_size, message), to_rgb)

    def _on_compressed(self, message: CompressedImage) -> None:
        to_rgb = partial(compressed_to_rgb, message, self._bits)
        self._take_in(message.header, partial(compressed_size, message), to_rgb)

    def on_video(self, message: Any) -> None:
        """Take in the images that a piece of a video makes ready. Each piece needs those before it, so none waits."""
        self._last_arrival_s = time.monotonic()
        package, name = VIDEO_TYPES[self._settings.image_transport]
        piece = as_ros(f"{package}/msg/{name}", message)
        try:
            for header, frame in self._video.decode(piece, piece.header):
                self._take_in(header, partial(_frame_size, frame), partial(frame_to_rgb, frame))
        except RefusedMessage as refusal:
            self._refuse(refusal)

    def _refuse(self, refusal: RefusedMessage) -> None:
        self._buffer.refuse(refusal.kind)
        self.report(refusal)

    def _take_in(
        self,
        header: Any,
        size_of: Callable[[], tuple[int, int]],
        to_rgb: Callable[[], np.ndarray],
    ) -> None:
        self._last_arrival_s = time.monotonic()
        stamp, camera = stamp_ns(header.stamp), header.frame_id
        try:
            size_hw = size_of()
            image_camera = self._image_camera(size_hw)
            mask = self._masks.of(size_hw)
            stereo = self._stereo_place()
        except RefusedMessage as refusal:
            self._refuse(refusal)
            return

        def decode() -> Frame:
            return _frame(to_rgb(), stamp, camera, image_camera, mask)

        self._deliver(CameraImage(self._name, stamp, camera, size_hw, decode, stereo))

    def tell_frame_id(self, camera_frames: Sequence[str]) -> None:
        """Warn of frame ids that are others than before, once."""
        self._warn_once(
            "frame_ids",
            f"Images on {self.topic} come with another frame_id, {bounded(' '.join(camera_frames))!r}, which starts a "
            "new map every time it changes; publish one camera on a topic.",
        )

    def _stereo_place(self) -> np.ndarray | None:
        info = self._rect_info or self._camera_info
        if not self._name or info is None:
            return None
        return stereo_place(info, self._camera.is_rectified)

    def _image_camera(self, size_hw: tuple[int, int]) -> ImageCamera | None:
        """Of the image as it came, or None where the model's estimate is to be used."""
        source = self._settings.intrinsics.source
        if source == "model":
            self._calibration = "model"
            return None
        camera, why_not, info = None, "CameraInfo has not arrived", self._rect_info or self._camera_info
        self._trouble = None
        if info is not None:
            why_not = "CameraInfo is uncalibrated"
            try:
                camera = self._camera.camera(info, size_hw)
            except RefusedMessage as refusal:
                if source == "camera_info" or refusal.kind == "camera_info_size":
                    raise
                self._refused_infos[refusal.kind] += 1
                self._trouble, why_not = str(refusal), "CameraInfo is unusable"
                if self._told.is_new("camera_info", str(refusal)):
                    self._logger.warning(f"{bounded(str(refusal))} Until then the model's estimate is used.")
            else:
                self._told.is_new("camera_info", "")
        if camera is None and source == "camera_info":
            raise RefusedMessage(
                "camera_info",
                f"{why_not} on {self._info_subscription.topic_name}; publish a calibrated one, or set "
                "intrinsics.source to auto.",
            )
        self._calibration = f"model: {why_not}" if camera is None else _described(camera)
        return camera

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            self._logger.warning(bounded(text))


def describe_silence(
    topic: str, silence_s: float, publishers: Sequence[TopicEndpointInfo], qos: QoSProfile, may_lose_images: bool
) -> str:
    """What is waited for, whether anybody publishes it, and whether their QoS fits ours, in one sentence."""
    waiting = f"No image on {topic} for {silence_s:.0f} s"
    if not publishers:
        return f"{waiting}, which nobody publishes; start the camera, or remap the topic with -r image:=..."
    for publisher in publishers:
        fit, reason = qos_check_compatible(publisher.qos_profile, qos)
        if fit == QoSCompatibility.ERROR:
            return (
                f"{waiting}: the QoS of its publisher {publisher.node_name} does not fit "
                f"({reason.removeprefix('ERROR: ').rstrip(';')}); change it by the parameter "
                f"qos_overrides.{topic}.subscription.reliability."
            )
    number = "1 publisher" if len(publishers) == 1 else f"{len(publishers)} publishers"
    cause = LOSSES if may_lose_images else "is the camera running?"
    return f"{waiting}, though it has {number} of fitting QoS: {cause}"


def _video_type(transport: str) -> type:
    """The class of its messages. Raises InputError where their package is not installed."""
    package, name = VIDEO_TYPES[transport]
    try:
        return cast(type, getattr(import_module(f"{package}.msg"), name))
    except ImportError as error:
        raise InputError(
            f"image_transport is {transport}, whose messages are not installed: "
            f"apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        ) from error


def _frame_size(frame: Any) -> tuple[int, int]:
    return frame.height, frame.width


def _frame(
    rgb: np.ndarray, stamp: int, camera_frame: str, camera: ImageCamera | None, mask: np.ndarray | None
) -> Frame:
    if camera is None:
        return Frame(rgb, stamp, camera_frame, mask=mask)
    if mask is not None and camera.rectify is not None:
        mask = camera.rectified(mask.astype(np.uint8) * 255) > 0
    return Frame(camera.rectified(rgb), stamp, camera_frame, camera.intrinsics, mask=mask)


def _described(camera: ImageCamera) -> str:
    if camera.rectify is None:
        return "CameraInfo"
    return f"CameraInfo, rectified images keep {100 * camera.kept:.0f} % of the pixels"


def _image_size(message: Image) -> tuple[int, int]:
    check_image(message)
    return message.height, message.width


def _may_lose_images(qos: QoSProfile) -> bool:
    untuned = not any(name in os.environ for name in FAST_DDS_SETTINGS)
    best_effort = qos.reliability == ReliabilityPolicy.BEST_EFFORT
    return best_effort and untuned and "fastrtps" in get_rmw_implementation_identifier()
