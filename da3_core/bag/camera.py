# SPDX-License-Identifier: Apache-2.0
"""The images of one camera in a bag, decoded, with what CameraInfo says about each."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from da3_core.bag.options import BagOptions
from da3_core.bag.read import BagMessage, BagReader
from da3_core.bag.windows import RecordedFrame
from da3_core.errors import InputError
from da3_core.frame import Frame
from da3_core.image_messages import (
    ENCODINGS,
    RefusedMessage,
    compressed_size,
    compressed_to_rgb,
    image_to_rgb,
    intrinsics_from_camera_info,
)
from da3_core.ros_conventions import stamp_ns
from da3_core.transform_tree import TransformTree

logger = logging.getLogger(__name__)

IMAGE, COMPRESSED, CAMERA_INFO = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
)
OWN_NAMESPACE = "/da3/"


class RecordedCamera:
    """One image topic of a bag, its calibration and its tree of transforms.

    Attributes:
        bag: where they come from.
        topic: of the images.
        info_topic: of their CameraInfo, or None.
        tree: the transforms of the bag so far.
        refused: how many images could not be used, by reason.
    """

    def __init__(self, bag: BagReader, options: BagOptions) -> None:
        """Choose the topics.

        Raises:
            InputError: no such topic, or none or several that may be meant.
        """
        self.bag, self._options = bag, options
        self.topic = _image_topic(bag, options.image_topic)
        self.info_topic = _info_topic(bag, self.topic, options.camera_info_topic)
        self.refused: Counter[str] = Counter()
        self.tree = TransformTree(options.map_frame, options.max_extrapolation_s)
        self._info = bag.first(self.info_topic) if self.info_topic else None
        self.start_ns: int = bag.start_ns + round(options.start_s * 1e9)
        self.stop_ns = bag.end_ns if options.duration_s is None else self.start_ns + round(options.duration_s * 1e9)
        if not bag.start_ns <= self.start_ns < bag.end_ns:
            seconds = (bag.end_ns - bag.start_ns) / 1e9
            raise InputError(f"--start is {options.start_s:g} s and the bag has {seconds:.1f} s: start within it")

    def expected_frames(self) -> int:
        """About how many images will be taken, for progress."""
        whole_ns = self.bag.end_ns - self.bag.start_ns
        part_ns = min(self.stop_ns, self.bag.end_ns) - self.start_ns
        images = self.bag.counts[self.topic] * part_ns / max(1, whole_ns)
        if self._options.fps is not None:
            images = min(images, self._options.fps * part_ns / 1e9)
        return max(1, round(images / self._options.every))

    def frames(self, copied: set[str], copy: Callable[[BagMessage], None]) -> Iterator[RecordedFrame]:
        """The images in the order of their recording; on the way, messages of the topics `copied` go to `copy`.

        Images that cannot be used are left out, counted and, once per reason, logged.
        """
        for message in self.bag.messages(["/tf_static"]):  # whoever is late gets them all the same
            self._add_transforms(message)
            if message.topic in copied:
                copy(message._replace(time_ns=max(message.time_ns, self.start_ns)))
        streamed = {self.topic, "/tf", *copied} - {"/tf_static"} | ({self.info_topic} if self.info_topic else set())
        taken = _Taken(self._options)
        last: tuple[int, str] | None = None
        for message in self.bag.messages(streamed, self.start_ns, self.stop_ns):
            if message.topic in copied:
                copy(message)
            if message.topic == "/tf":
                self._add_transforms(message)
            elif message.topic == self.info_topic:
                self._info = self.bag.decode(message)
            elif message.topic == self.topic:
                try:
                    image = self.bag.decode(message)
                    header = stamp_ns(image.header.stamp), image.header.frame_id
                    if not taken.takes(header[0]):
                        continue
                    frame = self._frame(image, *header)
                    if header == last:
                        raise RefusedMessage("stamp", f"Two images have the same stamp, {header[0]} ns.")
                except InputError as refusal:
                    self._refuse(refusal)
                    continue
                last = header
                yield RecordedFrame(frame, message.time_ns)

    def _frame(self, image: Any, stamp: int, camera: str) -> Frame:
        rgb = (compressed_to_rgb if self.bag.types[self.topic] == COMPRESSED else image_to_rgb)(image)
        return Frame(rgb, stamp, camera, self._intrinsics((rgb.shape[0], rgb.shape[1])))

    def _intrinsics(self, size_hw: tuple[int, int]) -> np.ndarray | None:
        """Of the image as recorded, or None where the model's estimate is to be used."""
        source, intrinsics = self._options.intrinsics, None
        if source == "model":
            return None
        try:
            if self._info is not None:
                intrinsics = intrinsics_from_camera_info(_ros2_names(self._info), size_hw)
        except RefusedMessage as refusal:
            if source == "camera_info" or refusal.kind == "camera_info_size":
                raise
            self._refuse(refusal, f"{refusal} The model's estimate is used.", count=0)
        if intrinsics is None and source == "camera_info":
            raise RefusedMessage(
                "camera_info", f"No calibrated CameraInfo is known on {self.info_topic or 'any topic'}: use auto."
            )
        return intrinsics

    def _refuse(self, refusal: InputError, text: str = "", count: int = 1) -> None:
        kind = refusal.kind if isinstance(refusal, RefusedMessage) else "damaged"
        if kind not in self.refused:
            logger.warning("%s", text or f"an image was left out: {refusal}")
        self.refused[kind] += count

    def _add_transforms(self, message: BagMessage) -> None:
        try:
            self.tree.add(self.bag.decode(message).transforms, message.topic == "/tf_static")
        except InputError as error:
            logger.warning("%s", error)


class _Taken:
    """Which images are taken: every n-th, or the first of every 1/fps seconds of stamps."""

    def __init__(self, options: BagOptions) -> None:
        self._every, self._fps = options.every, options.fps
        self._seen = 0
        self._slot: int | None = None
        self._first_ns: int | None = None

    def takes(self, stamp: int) -> bool:
        if self._fps is not None:
            self._first_ns = stamp if self._first_ns is None else self._first_ns
            slot = int((stamp - self._first_ns) * self._fps / 1e9 + 1e-6)  # 1e-6: stamps are rounded to nanoseconds
            if slot == self._slot:
                return False
            self._slot = slot
        self._seen += 1
        return (self._seen - 1) % self._every == 0


def topics_to_copy(bag: BagReader, choice: str) -> set[str]:
    """The topics that `all`, `none` or a regular expression means.

    Raises:
        InputError: the expression is none, it means no topic, or the bag is of ROS 1, whose messages lie differently.
    """
    if choice == "none":
        return set()
    try:
        topics = {topic for topic in bag.types if choice == "all" or re.search(choice, topic)}
    except re.error as error:
        raise InputError(f"--copy-topics is {choice!r}: give all, none or a regular expression ({error})") from error
    if not topics:
        raise InputError(f"--copy-topics {choice!r} means none of the topics {', '.join(sorted(bag.types))}")
    if bag.is_ros1:
        raise InputError("topics of a ROS 1 bag are not copied: convert it with `rosbags-convert`, or copy none")
    return {topic for topic in topics if not topic.startswith(OWN_NAMESPACE)}


def _image_topic(bag: BagReader, named: str | None) -> str:
    images = {topic for topic, kind in bag.types.items() if kind in (IMAGE, COMPRESSED)}
    if named is not None:
        if named not in images:
            raise InputError(f"the bag has no images on {named!r}; it has them on {_listed(images)}")
        return named
    pictures = {topic for topic in images if not topic.startswith(OWN_NAMESPACE) and _is_picture(bag, topic)}
    raw = {topic for topic in pictures if bag.types[topic] == IMAGE}
    pictures -= {f"{topic}/compressed" for topic in raw}  # the same images again
    if len(pictures) != 1:
        found = f"several topics with pictures, {_listed(pictures)}: name one" if pictures else "no topic with pictures"
        raise InputError(f"the bag has {found}{'' if pictures else f'; its images are on {_listed(images)}'}".strip())
    return pictures.pop()


def _is_picture(bag: BagReader, topic: str) -> bool:
    """Whether the first image is a picture of a camera, not depth or a mask of another kind."""
    try:
        image = bag.first(topic)
        if image is not None and bag.types[topic] == COMPRESSED:
            compressed_size(image)
    except InputError:
        return False
    return image is not None and (bag.types[topic] == COMPRESSED or image.encoding in ENCODINGS)


def _info_topic(bag: BagReader, image_topic: str, named: str | None) -> str | None:
    """The one named, else `camera_info` beside the image."""
    infos = {topic for topic, kind in bag.types.items() if kind == CAMERA_INFO}
    if named is not None:
        if named not in infos:
            raise InputError(f"the bag has no CameraInfo on {named!r}; it has it on {_listed(infos)}")
        return named
    beside = image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"
    return beside if beside in infos else None


def _listed(topics: set[str]) -> str:
    return ", ".join(sorted(topics)) or "no topic"


def _ros2_names(info: Any) -> Any:
    """A CameraInfo of ROS 1, whose matrices have capital letters, under the names of ROS 2."""
    if hasattr(info, "k"):
        return info
    return SimpleNamespace(**{name.lower() if len(name) == 1 else name: getattr(info, name) for name in vars(info)})
