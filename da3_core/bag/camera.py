# SPDX-License-Identifier: Apache-2.0
"""The images of one camera in a bag, or of several that form a rig, decoded, with what the bag says about each: its
calibration, the pose of its camera, and the tree of transforms that the camera is in."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np

from da3_core.bag.options import BagOptions
from da3_core.bag.read import BagMessage, BagReader
from da3_core.bag.rig import StampMatcher
from da3_core.bag.topics import COMPRESSED, camera_names, image_topics, info_topics
from da3_core.bag.windows import Instant, RecordedFrame
from da3_core.errors import InputError
from da3_core.frame import Frame, RigPlace
from da3_core.image_messages import RefusedMessage, compressed_to_rgb, image_to_rgb, intrinsics_from_camera_info
from da3_core.ros_conventions import stamp_ns, world_to_camera_in_map
from da3_core.transform_tree import TransformTree, TransformUnknown

logger = logging.getLogger(__name__)

SEARCHED_TRANSFORMS = 1000  # for the frame that poses are wanted in, before any image is inferred


@dataclass(frozen=True, eq=False)
class _Arrival:
    """An image message that was read, not yet decoded, and the CameraInfo that was known then."""

    message: BagMessage
    image: Any
    info: Any
    stamp_ns: int
    camera_frame: str


class RecordedCamera:
    """The image topics of a bag, their calibration and their tree of transforms.

    Attributes:
        bag: where they come from.
        topics: of the images; several are a rig.
        names: of their cameras, for the names of outputs; an empty one for a single camera.
        info_topics: of their CameraInfo, or None, in the same order.
        refused: how many images could not be used, by reason.
        without_pose: how many were used without a pose though poses were asked for.
    """

    def __init__(self, bag: BagReader, options: BagOptions) -> None:
        """Choose the topics.

        Raises:
            InputError: no such topic, none or several that may be meant, or no transforms where poses are asked for.
        """
        self.bag, self._options = bag, options
        self.topics = image_topics(bag, options.image_topics)
        self.names = camera_names(self.topics)
        self.info_topics = info_topics(bag, self.topics, options.camera_info_topics)
        self.refused: Counter[str] = Counter()
        self.without_pose = 0
        self._told: set[str] = set()
        self._infos: dict[str, Any] = {}
        self._tree = TransformTree(options.map_frame, options.max_extrapolation_s)
        self.start_ns: int = bag.start_ns + round(options.start_s * 1e9)
        self.stop_ns = bag.end_ns if options.duration_s is None else self.start_ns + round(options.duration_s * 1e9)
        if not bag.start_ns <= self.start_ns < bag.end_ns:
            seconds = (bag.end_ns - bag.start_ns) / 1e9
            raise InputError(f"--start is {options.start_s:g} s and the bag has {seconds:.1f} s: start within it")
        if options.pose_source == "rig" and len(self.topics) == 1:
            raise InputError("--pose-source rig needs several --image-topic, which there is one of")
        if options.pose_source == "tf":
            self._check_odom_frame()

    @property
    def described(self) -> str:
        """The topics, in words."""
        calibrations = [topic or "no topic" for topic in self.info_topics]
        return f"images on {', '.join(self.topics)}, calibration on {', '.join(calibrations)}"

    def expected_frames(self) -> int:
        """About how many images will be taken, for progress."""
        whole_ns = self.bag.end_ns - self.bag.start_ns
        part_ns = min(self.stop_ns, self.bag.end_ns) - self.start_ns
        instants = min(self.bag.counts[topic] for topic in self.topics) * part_ns / max(1, whole_ns)
        if self._options.fps is not None:
            instants = min(instants, self._options.fps * part_ns / 1e9)
        return max(1, round(instants / self._options.every)) * len(self.topics)

    def instants(self, copied: set[str], copy: Callable[[BagMessage], None]) -> Iterator[Instant]:
        """The images in the order of their recording, those of a rig by instants; on the way, messages of the topics
        `copied` go to `copy`.

        An image waits until the transforms that were recorded up to `tf_timeout_s` after it are known. Images that
        cannot be used are left out with those of their instant, counted and, once per reason, logged.
        """
        for message in self.bag.messages(["/tf_static"]):  # whoever is late gets them all the same
            self._add_transforms(message)
            if message.topic in copied:
                copy(message._replace(time_ns=max(message.time_ns, self.start_ns)))
        infos = {topic for topic in self.info_topics if topic}
        for topic in infos:  # the first one counts for images before it
            for message in islice(self.bag.messages([topic]), 1):
                self._add_info(message)
        streamed = {*self.topics, *infos, "/tf", *copied} - {"/tf_static"}
        patience_ns = round(self._options.tf_timeout_s * 1e9) if "/tf" in self.bag.types else 0
        matcher: StampMatcher[_Arrival] = StampMatcher(len(self.topics), round(self._options.sync_slop_s * 1e9))
        taken = _Taken(self._options)
        waiting: deque[tuple[_Arrival, ...]] = deque()
        last: dict[str, tuple[int, str]] = {}
        for message in self.bag.messages(streamed, self.start_ns, self.stop_ns):
            if message.topic in copied:
                copy(message)
            while waiting and waiting[0][0].message.time_ns + patience_ns < message.time_ns:
                yield from self._decoded(waiting.popleft())
            if message.topic == "/tf":
                self._add_transforms(message)
            elif message.topic in infos:
                self._add_info(message)
            elif message.topic in self.topics:
                arrival = self._arrival(message, last)
                for instant in matcher.put(self.topics.index(message.topic), arrival) if arrival else ():
                    if taken.takes(instant[0].stamp_ns):
                        waiting.append(instant)
        while waiting:
            yield from self._decoded(waiting.popleft())
        matcher.finish()
        self.refused["partner"] += matcher.unmatched

    def _arrival(self, message: BagMessage, last: dict[str, tuple[int, str]]) -> _Arrival | None:
        """An image whose header can be read and is another than the last one of its topic."""
        try:
            image = self.bag.decode(message)
            header = stamp_ns(image.header.stamp), image.header.frame_id
            if header == last.get(message.topic):
                raise RefusedMessage("stamp", f"Two images have the same stamp, {header[0]} ns.")
        except InputError as refusal:
            self._refuse(refusal)
            return None
        last[message.topic] = header
        info_topic = self.info_topics[self.topics.index(message.topic)]
        return _Arrival(message, image, self._infos.get(info_topic or ""), *header)

    def _decoded(self, arrivals: tuple[_Arrival, ...]) -> Iterator[Instant]:
        """The images of an instant, unless one of them cannot be used."""
        try:
            places = self._rig_places(arrivals)
            yield tuple(self._recorded(arrival, place) for arrival, place in zip(arrivals, places, strict=True))
        except RefusedMessage as refusal:
            self._refuse(refusal)
            self.refused["partner"] += len(arrivals) - 1

    def _recorded(self, arrival: _Arrival, place: RigPlace | None) -> RecordedFrame:
        topic = arrival.message.topic
        rgb = (compressed_to_rgb if self.bag.types[topic] == COMPRESSED else image_to_rgb)(arrival.image)
        frame = Frame(
            rgb,
            arrival.stamp_ns,
            arrival.camera_frame,
            self._intrinsics(arrival, (rgb.shape[0], rgb.shape[1])),
            self._world_to_camera(arrival),
            place,
        )
        root, camera_to_root = self._root(arrival)
        return RecordedFrame(frame, arrival.message.time_ns, self.names[self.topics.index(topic)], root, camera_to_root)

    def _intrinsics(self, arrival: _Arrival, size_hw: tuple[int, int]) -> np.ndarray | None:
        """Of the image as recorded, or None where the model's estimate is to be used."""
        source, intrinsics = self._options.intrinsics, None
        if source == "model":
            return None
        try:
            if arrival.info is not None:
                intrinsics = intrinsics_from_camera_info(_ros2_names(arrival.info), size_hw)
        except RefusedMessage as refusal:
            if source == "camera_info" or refusal.kind == "camera_info_size":
                raise
            self._tell(refusal.kind, f"{refusal} The model's estimate is used.")
        if intrinsics is None and source == "camera_info":
            raise RefusedMessage(
                "camera_info", f"No calibrated CameraInfo is known for {arrival.message.topic}: use auto."
            )
        return intrinsics

    def _world_to_camera(self, arrival: _Arrival) -> np.ndarray | None:
        """By the transforms of the bag, in the map; None where they are not asked for or do not tell."""
        if self._options.pose_source != "tf":
            return None
        try:
            camera_to_odom = self._tree.pose_in(arrival.camera_frame, self._options.odom_frame, arrival.stamp_ns)
        except TransformUnknown as reason:
            if self._options.pose_required:
                raise RefusedMessage("pose", str(reason)) from reason
            self.without_pose += 1
            self._tell("pose", f"images are used without a pose, the first because: {reason}")
            return None
        return world_to_camera_in_map(camera_to_odom)

    def _rig_places(self, arrivals: tuple[_Arrival, ...]) -> list[RigPlace | None]:
        """By /tf_static, where it ties all cameras to one body.

        Raises:
            InputError: it does not, and places in a rig are asked for.
        """
        nowhere: list[RigPlace | None] = [None] * len(arrivals)
        if len(arrivals) == 1 or self._options.pose_source not in ("auto", "rig"):
            return nowhere
        bodies = [self._tree.body(arrival.camera_frame) for arrival in arrivals]
        if len({body for body, _ in bodies}) == 1:
            return [RigPlace(camera_to_body, arrivals[0].stamp_ns) for _, camera_to_body in bodies]
        frames = ", ".join(arrival.camera_frame for arrival in arrivals)
        if self._options.pose_source == "rig":
            raise InputError(
                f"/tf_static of the bag does not tie the cameras {frames} together: leave --pose-source out"
            )
        self._tell("rig", f"/tf_static does not tie {frames} together: the model says how the cameras stand")
        return nowhere

    def _root(self, arrival: _Arrival) -> tuple[str | None, np.ndarray | None]:
        """The root of the tree that the camera is in, and the camera's pose in it."""
        try:
            if not arrival.camera_frame:
                raise TransformUnknown("The images have an empty frame_id.")
            root, camera_to_root = self._tree.frame_to_root(arrival.camera_frame, arrival.stamp_ns)
            if root == self._options.map_frame:
                raise TransformUnknown(f"{arrival.camera_frame} is below {root} in /tf_static: choose --map-frame.")
        except TransformUnknown as reason:
            self._tell("transform", f"images without a transform in /tf, the first because: {reason}")
            return None, None
        return root, camera_to_root

    def _check_odom_frame(self) -> None:
        """Refuse, before hours of work, a frame that the transforms do not know."""
        for message in [*self.bag.messages(["/tf_static"]), *islice(self.bag.messages(["/tf"]), SEARCHED_TRANSFORMS)]:
            self._add_transforms(message)
        frames, odom_frame = self._tree.frames(), self._options.odom_frame
        if odom_frame.lstrip("/") not in frames:
            raise InputError(
                f"--pose-source tf takes poses in the frame {odom_frame!r}, which no transform at the start of the bag "
                f"is about; it has {', '.join(sorted(frames)) or 'none'}: name another --odom-frame"
            )
        self._tree = TransformTree(self._options.map_frame, self._options.max_extrapolation_s)

    def _add_info(self, message: BagMessage) -> None:
        try:
            self._infos[message.topic] = self.bag.decode(message)
        except InputError as error:
            self._tell("info", str(error))

    def _add_transforms(self, message: BagMessage) -> None:
        try:
            self._tree.add(self.bag.decode(message).transforms, message.topic == "/tf_static")
        except InputError as error:
            self._tell("transforms", str(error))

    def _refuse(self, refusal: InputError) -> None:
        kind = refusal.kind if isinstance(refusal, RefusedMessage) else "damage"
        self._tell(kind, f"an image was left out: {refusal}")
        self.refused[kind] += 1

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s", text)


class _Taken:
    """Which instants are taken: every n-th, or the first of every 1/fps seconds of stamps."""

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


def _ros2_names(info: Any) -> Any:
    """A CameraInfo of ROS 1, whose matrices have capital letters, under the names of ROS 2."""
    if hasattr(info, "k"):
        return info
    return SimpleNamespace(**{name.lower() if len(name) == 1 else name: getattr(info, name) for name in vars(info)})
