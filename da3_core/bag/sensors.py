# SPDX-License-Identifier: Apache-2.0
"""What other sensors of a bag say about its images: depth that is known, and where up is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from da3_core.bag.options import BagOptions
from da3_core.bag.read import BagMessage, BagReader
from da3_core.errors import InputError, OptionError
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.gravity import Gravity
from da3_core.ros_data.reference_depth import ReferenceDepths
from da3_core.ros_data.values import IMAGE, POINT_CLOUD
from da3_core.stream.frame import Frame

IMU = "sensor_msgs/msg/Imu"


class RecordedSensors:
    """The messages of these sensors, as far as the bag has been read.

    Attributes:
        topics: of theirs.

    Args:
        places: what the transforms of the bag say.
        tell: given a kind and a text, logs the first of every kind.
    """

    def __init__(
        self, bag: BagReader, options: BagOptions, places: CameraPlaces, tell: Callable[[str, str], None]
    ) -> None:
        """Raises InputError where the bag has no such topic, or several that may be meant."""
        self._bag, self._tell = bag, tell
        self._depths = self._gravity = None
        self._reference = options.reference_topic
        self._imu = _imu_topic(bag, options.imu_topic) if options.map_up == "imu" else None
        if self._reference:
            if bag.types.get(self._reference) not in (IMAGE, POINT_CLOUD):
                raise OptionError(
                    "the bag has neither Image nor PointCloud2 on {given!r}: name another {reference_topic}",
                    given=self._reference,
                )
            self._depths = ReferenceDepths(places, options.reference_slop_s, partial(tell, "reference"))
        if options.map_up in ("imu", "tf"):
            self._gravity = Gravity(self._imu is not None, places, partial(tell, "up"))
        self.topics = {topic for topic in (self._reference, self._imu) if topic}

    def add(self, message: BagMessage) -> None:
        """Take in a message of one of the topics."""
        try:
            content = self._bag.decode(message)
        except InputError as error:
            self._tell("sensors", str(error))
            return
        if self._depths and message.topic == self._reference:
            self._depths.add(content)
        if self._gravity and message.topic == self._imu:
            self._gravity.add(content)

    def up(self, camera_frame: str, stamp_ns: int) -> np.ndarray | None:
        """See `Frame.up`."""
        return self._gravity.of(camera_frame, stamp_ns) if self._gravity else None

    def reference_depth(self, frame: Frame) -> np.ndarray | None:
        """See `Frame.reference_depth`."""
        message = self._depths.nearest(frame.stamp_ns) if self._depths else None
        return None if self._depths is None or message is None else self._depths.depth_of(message, frame)


def _imu_topic(bag: BagReader, named: str | None) -> str:
    topics = sorted(topic for topic, kind in bag.types.items() if kind == IMU)
    if named in topics:
        return str(named)
    if named is None and len(topics) == 1:
        return topics[0]
    raise OptionError(
        "the bag has Imu on {topics}: {map_up} imu is by one of them, name it with {imu_topic}",
        topics=", ".join(topics) or "no topic",
    )
