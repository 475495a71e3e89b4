# SPDX-License-Identifier: Apache-2.0
"""The images of one camera in a bag, or of several that form a rig, decoded, with what the bag says about each: its
calibration, the pose of its camera, and the tree of transforms that the camera is in."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np

from da3_core.bag.options import BagOptions
from da3_core.bag.pixels import RecordedPixels
from da3_core.bag.read import BagMessage, BagReader
from da3_core.bag.sensors import RecordedSensors
from da3_core.bag.topics import COMPRESSED, camera_names, clause, image_topics, info_topics
from da3_core.bag.transforms import RecordedTransforms
from da3_core.bag.windows import FrameSet, RecordedFrame
from da3_core.errors import ImageError, InputError, OptionError
from da3_core.ros_data.camera_info import ImageCalibration, ImageCamera, stereo_place
from da3_core.ros_data.camera_places import told_apart
from da3_core.ros_data.conventions import stamp_ns
from da3_core.ros_data.foreign import VIDEO
from da3_core.ros_data.images import RefusedMessage, SampleBits, compressed_to_rgb, image_to_rgb
from da3_core.ros_data.stamp_matcher import StampMatcher
from da3_core.ros_data.told import Told
from da3_core.ros_data.video import VideoDecoder, frame_to_rgb
from da3_core.stream.frame import Frame, RigPlace

logger = logging.getLogger(__name__)

NO_PARTNER = "another camera of the rig had no image to go with them"
BEFORE_NS = 10_000_000_000  # how long before the start of the part that is processed a video is decoded


@dataclass(frozen=True, eq=False)
class _Arrival:
    """An image message that was read, and the CameraInfo that was known then.

    Attributes:
        image: not yet decoded; of a video a decoded frame.
    """

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
        refused: how many images could not be used, by kind of reason.
        reasons: the first one of each kind, in words.
        calibration_refused: how many images were used with the model's camera since their CameraInfo could not be, by
            kind of reason.
    """

    def __init__(
        self, bag: BagReader, options: BagOptions, given: Callable[[tuple[int, int]], ImageCamera] | None = None
    ) -> None:
        """Choose the topics.

        Args:
            given: the camera of all images by their height and width, in place of what the bag says.

        Raises:
            InputError: no such topic, none or several that may be meant, or no transforms where poses are asked for.
        """
        self.bag, self._options, self._given = bag, options, given
        self.topics = image_topics(bag, options.image_topics)
        self.names = camera_names(self.topics)
        self.info_topics = info_topics(bag, self.topics, options.camera_info_topics, options.image_is_rectified)
        self._calibrations = {
            topic: ImageCalibration(topic, options.image_is_rectified, options.rectify_alpha) for topic in self.topics
        }
        self.calibration_refused: Counter[str] = Counter()
        self._told_calibration = Told()
        self.refused: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self._told: set[str] = set()
        self._bits = {topic: SampleBits(partial(self._tell, f"bits of {topic}")) for topic in self.topics}
        self._videos: dict[str, VideoDecoder[_Arrival | None]] = {
            topic: VideoDecoder() for topic in self.topics if bag.types[topic] == VIDEO
        }
        self._infos: dict[str, Any] = {}
        self.start_ns: int = bag.start_ns + round(options.start_s * 1e9)
        self.stop_ns = bag.end_ns if options.duration_s is None else self.start_ns + round(options.duration_s * 1e9)
        if not bag.start_ns <= self.start_ns < bag.end_ns:
            seconds = (bag.end_ns - bag.start_ns) / 1e9
            raise OptionError(
                "{start_s} is {given:g} s and the bag has {seconds:.1f} s: start within it",
                given=options.start_s,
                seconds=seconds,
            )
        if options.pose_source == "rig" and len(self.topics) == 1:
            raise OptionError("{pose_source} rig is about several cameras: give {image_topics} more than once")
        self._transforms = RecordedTransforms(bag, options, self._tell)
        self._sensors = RecordedSensors(bag, options, self._transforms.places, self._tell)
        others = {"/tf", *self._sensors.topics} & bag.types.keys()
        self._patience_ns = round(options.tf_timeout_s * 1e9) if others else 0

    @property
    def without_pose(self) -> int:
        """How many images were used without a pose though poses were asked for."""
        return self._transforms.without_pose

    @property
    def described(self) -> str:
        """The topics, in words."""
        calibrations = ["no topic" if topic is None or self._given else topic for topic in self.info_topics]
        return f"images on {', '.join(self.topics)}, calibration on {', '.join(calibrations)}"

    def expected_frames(self) -> int:
        """About how many images will be taken, for progress."""
        whole_ns = self.bag.end_ns - self.bag.start_ns
        part_ns = min(self.stop_ns, self.bag.end_ns) - self.start_ns
        frame_sets = min(self.bag.counts[topic] for topic in self.topics) * part_ns / max(1, whole_ns)
        if self._options.fps is not None:
            frame_sets = min(frame_sets, self._options.fps * part_ns / 1e9)
        return max(1, round(frame_sets / self._options.every)) * len(self.topics)

    def frame_sets(self, copied: set[str], copy: Callable[[BagMessage], None]) -> Iterator[FrameSet]:
        """The images in the order of their recording, those of a rig by frame sets; on the way, messages of the topics
        `copied` go to `copy`.

        An image waits until what transforms and other sensors say up to `tf_timeout_s` after it is known. Images
        that cannot be used are left out with those of their frame set, counted and, once per reason, logged.
        """
        for message in self.bag.messages(["/tf_static"]):  # whoever is late gets them all the same
            self._transforms.add(message)
            if message.topic in copied:
                copy(message._replace(time_ns=max(message.time_ns, self.start_ns)))
        infos = {topic for topic in self.info_topics if topic}
        for topic in infos:  # the first one counts for images before it
            for message in islice(self.bag.messages([topic]), 1):
                self._add_info(message)
        sensors = self._sensors.topics
        streamed = {*self.topics, *infos, "/tf", *sensors, *copied} - {"/tf_static"}
        self._transforms.add_before(self.start_ns)
        self._begin_videos()
        matcher: StampMatcher[_Arrival] = StampMatcher(len(self.topics), round(self._options.sync_slop_s * 1e9))
        taken = _Taken(self._options)
        waiting: deque[tuple[_Arrival, ...]] = deque()
        last: dict[str, tuple[int, str]] = {}
        for message in self.bag.messages(streamed, self.start_ns, self.stop_ns):
            if message.topic in copied:
                copy(message)
            while waiting and waiting[0][0].message.time_ns + self._patience_ns < message.time_ns:
                yield from self._decoded(waiting.popleft())
            if message.topic == "/tf":
                self._transforms.add(message)
            elif message.topic in sensors:
                self._sensors.add(message)
            elif message.topic in infos:
                self._add_info(message)
            elif message.topic in self.topics:
                for arrival in self._arrivals(message, last):
                    waiting += self._matched(arrival, matcher, taken)
        for arrival in self._finish_videos():
            waiting += self._matched(arrival, matcher, taken)
        for message in self.bag.messages(["/tf", *sensors], self.stop_ns, self.stop_ns + self._patience_ns):
            (self._transforms if message.topic == "/tf" else self._sensors).add(message)
        while waiting:
            yield from self._decoded(waiting.popleft())
        matcher.finish()
        self._leave_out("partner", NO_PARTNER, matcher.unmatched)

    def _matched(
        self, arrival: _Arrival, matcher: StampMatcher[_Arrival], taken: _Taken
    ) -> Iterator[tuple[_Arrival, ...]]:
        """The frame sets that an image completes, those of them that are taken."""
        for frame_set in matcher.put(self.topics.index(arrival.message.topic), arrival):
            if taken.takes(frame_set[0].stamp_ns):
                yield frame_set

    def _begin_videos(self) -> None:
        """Decode what an image at the start of the part refers to."""
        for message in self.bag.messages(self._videos, self.start_ns - BEFORE_NS, self.start_ns):
            with suppress(InputError):
                for _ in self._videos[message.topic].decode(self.bag.decode(message), None):
                    pass

    def _finish_videos(self) -> Iterator[_Arrival]:
        """The images that decoders held back."""
        for video in self._videos.values():
            for arrival, frame in video.finish():
                if arrival is not None:
                    yield replace(arrival, image=frame)
            self._leave_out("undecodable", "no image came of these pieces of the video", video.lost)

    def _arrivals(self, message: BagMessage, last: dict[str, tuple[int, str]]) -> Iterator[_Arrival]:
        """The image of a message; of a video, those that can be decoded now."""
        arrival = self._arrival(message, last)
        if arrival is None or message.topic not in self._videos:
            yield from [arrival] if arrival else []
            return
        try:
            for earlier, frame in self._videos[message.topic].decode(arrival.image, replace(arrival, image=None)):
                if earlier is not None:
                    yield replace(earlier, image=frame)
        except RefusedMessage as refusal:
            self._refuse(refusal)

    def _arrival(self, message: BagMessage, last: dict[str, tuple[int, str]]) -> _Arrival | None:
        """An image whose header can be read and is another than the last one of its topic."""
        try:
            image = self.bag.decode(message)
            header = stamp_ns(image.header.stamp), image.header.frame_id
            if header[0] == 0:
                self._tell("stamp 0", f"images on {message.topic} without a stamp have the time of their recording")
                header = message.time_ns, header[1]
            if header == last.get(message.topic):
                raise RefusedMessage("stamp", f"Two images have the same stamp, {header[0]} ns.")
        except InputError as refusal:
            self._refuse(refusal)
            return None
        last[message.topic] = header
        info_topic = self.info_topics[self.topics.index(message.topic)]
        return _Arrival(message, image, self._infos.get(info_topic or ""), *header)

    def _decoded(self, arrivals: tuple[_Arrival, ...]) -> Iterator[FrameSet]:
        """The images of a frame set, unless one of them cannot be used."""
        try:
            camera_frames = [arrival.camera_frame for arrival in arrivals]
            stereo = [self._stereo_place(arrival) for arrival in arrivals]
            places = self._transforms.rig_places(camera_frames, arrivals[0].stamp_ns, stereo)
            recorded = [self._recorded(arrival, place) for arrival, place in zip(arrivals, places, strict=True)]
            frames = told_apart([each.frame for each in recorded], [each.camera for each in recorded], stereo)
            yield tuple(replace(each, frame=frame) for each, frame in zip(recorded, frames, strict=True))
        except RefusedMessage as refusal:
            self._refuse(refusal)
            self._leave_out("partner", NO_PARTNER, len(arrivals) - 1)

    def _recorded(self, arrival: _Arrival, place: RigPlace | None) -> RecordedFrame:
        topic = arrival.message.topic
        rgb = self._rgb(topic, arrival.image)
        camera = self._camera(arrival, (rgb.shape[0], rgb.shape[1]))
        frame = Frame(
            rgb if camera is None else camera.rectified(rgb),
            arrival.stamp_ns,
            arrival.camera_frame,
            None if camera is None else camera.intrinsics,
            self._transforms.world_to_camera(arrival.camera_frame, arrival.stamp_ns),
            place,
            up=self._sensors.up(arrival.camera_frame, arrival.stamp_ns),
            origin=None if camera is not None and camera.rectify else self._origin(arrival),
        )
        frame = replace(frame, reference_depth=self._sensors.reference_depth(frame))
        root, camera_to_root = self._transforms.root(arrival.camera_frame, arrival.stamp_ns)
        return RecordedFrame(frame, arrival.message.time_ns, self.names[self.topics.index(topic)], root, camera_to_root)

    def _origin(self, arrival: _Arrival) -> RecordedPixels | None:
        """None for videos, whose frames rest on those before."""
        topic, time_ns = arrival.message.topic, arrival.message.time_ns
        return None if topic in self._videos else RecordedPixels(self.bag.path.absolute(), topic, time_ns)

    def _rgb(self, topic: str, image: Any) -> np.ndarray:
        if topic in self._videos:
            return frame_to_rgb(image)
        decode = compressed_to_rgb if self.bag.types[topic] == COMPRESSED else image_to_rgb
        return decode(image, self._bits[topic])

    def _stereo_place(self, arrival: _Arrival) -> np.ndarray | None:
        if len(self.topics) == 1 or arrival.info is None:
            return None
        return stereo_place(_ros2_names(arrival.info), self._calibrations[arrival.message.topic].is_rectified)

    def _camera(self, arrival: _Arrival, size_hw: tuple[int, int]) -> ImageCamera | None:
        """Of the image, or None where the model's estimate is to be used."""
        if self._given is not None:
            return self._given(size_hw)
        source, topic, camera = self._options.intrinsics, arrival.message.topic, None
        if source == "model":
            return None
        try:
            if arrival.info is not None:
                camera = self._calibrations[topic].camera(_ros2_names(arrival.info), size_hw)
            self._told_calibration.is_new(topic, "")
        except RefusedMessage as refusal:
            if source == "camera_info" or refusal.kind == "camera_info_size":
                raise
            self.calibration_refused[refusal.kind] += 1
            if self._told_calibration.is_new(topic, str(refusal)):
                logger.warning("%s: %s The model's estimate is used.", topic, refusal)
        if camera is None and source == "camera_info":
            raise RefusedMessage("camera_info", f"No calibrated CameraInfo is known for {topic}: use auto.")
        return camera

    def _add_info(self, message: BagMessage) -> None:
        try:
            self._infos[message.topic] = self.bag.decode(message)
        except InputError as error:
            self._tell("info", str(error))

    def refuse_unusable(self, error: ImageError, images: int) -> None:
        """Count images that the model cannot take, such as very narrow ones."""
        self._tell("unusable", f"images were left out: {error}")
        self._leave_out("unusable", clause(error), images)

    def _refuse(self, refusal: InputError) -> None:
        kind = refusal.kind if isinstance(refusal, RefusedMessage) else "damage"
        self._tell(kind, f"an image was left out: {refusal}")
        self._leave_out(kind, clause(refusal), 1)

    def _leave_out(self, kind: str, reason: str, count: int) -> None:
        if count:
            self.refused[kind] += count
            self.reasons.setdefault(kind, reason)

    def _tell(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s", text)


class _Taken:
    """Which frame sets are taken: every n-th, or the first of every 1/fps seconds of stamps."""

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
