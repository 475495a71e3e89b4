# SPDX-License-Identifier: Apache-2.0
"""Messages of the old bag that go into the new one: those of ROS 2 as they lie, those of ROS 1 converted."""

from __future__ import annotations

import logging
from typing import Any

from da3_core.bag.channel import ROS_ENCODINGS, Channel
from da3_core.bag.read import BagMessage, BagReader
from da3_core.bag.write import BagWriter

logger = logging.getLogger(__name__)

RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}


class TopicCopies:
    """The topics of a bag that are copied to another.

    Attributes:
        topics: those of ROS whose types are known. A bag of an old distribution does not define its own.
    """

    def __init__(self, bag: BagReader, topics: set[str], writer: BagWriter) -> None:
        from rosbags.typesys import TypesysError

        self._bag, self._writer = bag, writer
        self._types: dict[str, str] = {}
        self._ros1_as_ros2: Any = None
        self._plans: dict[str, object] = {}  # of the conversion, which it keeps for the next message
        for topic in sorted(topics):
            channel = bag.channel(topic)
            if channel.encoding not in ROS_ENCODINGS:
                logger.warning("%s is not copied: its messages are %s, not of ROS", topic, channel.encoding)
                continue
            kind = RENAMED.get(channel.type_name, channel.type_name)
            try:
                writer.add(topic, kind, self._types_for(channel), channel.qos)
                self._types[topic] = kind
            except TypesysError:
                logger.warning("%s is not copied: nothing defines its type %s", topic, kind)
        self.topics = set(self._types)

    def copy(self, message: BagMessage) -> None:
        """Write a message of one of the topics, at its time. One of ROS 1 that cannot be converted is left out."""
        channel = message.channel
        raw: bytes | memoryview = message.raw
        if channel.encoding == "ros1":
            from da3_core.bag.rosbags_private import migrate_bytes

            try:
                raw = migrate_bytes(
                    self._bag.typestore(channel),
                    self._types_for(channel),
                    channel.type_name,
                    self._types[message.topic],
                    self._plans,
                    raw,
                    src_is2=False,
                    dst_is2=True,
                )
            except Exception as error:  # whatever wrong bytes make a parser raise
                self._bag.tell_damaged(message, error)
                return
        self._writer.write(message.topic, message.time_ns, raw)

    def _types_for(self, channel: Channel) -> Any:
        """The types of ROS 2 that messages of a channel are written with."""
        types = self._bag.typestore(channel)
        if channel.encoding != "ros1":
            return types
        if self._ros1_as_ros2 is None:
            self._ros1_as_ros2 = _ros2_types(types)
        return self._ros1_as_ros2


def _ros2_types(ros1: Any) -> Any:
    """As ROS 2 defines them, and those that it has not as the bag does."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    store.register({name: fields for name, fields in ros1.fielddefs.items() if name not in store.fielddefs})
    return store
