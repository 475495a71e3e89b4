# SPDX-License-Identifier: Apache-2.0
"""Messages of the recording that go into the new bag: those of ROS 2 as they lie, those of ROS 1 converted."""

from __future__ import annotations

import logging
from typing import Any

from da3_core.bag.read import BagMessage, BagReader
from da3_core.bag.write import BagWriter

logger = logging.getLogger(__name__)

RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}


class TopicCopies:
    """The topics of a bag that are copied to another.

    Attributes:
        topics: those whose types are known. A bag of an old distribution does not define its own.
    """

    def __init__(self, bag: BagReader, topics: set[str], writer: BagWriter) -> None:
        from rosbags.typesys import TypesysError

        self._bag, self._writer = bag, writer
        self._types = {topic: RENAMED.get(bag.types[topic], bag.types[topic]) for topic in topics}
        self._store = _ros2_types(bag.typestore) if bag.is_ros1 else bag.typestore
        self._plans: dict[str, object] = {}  # of the conversion, which it keeps for the next message
        self.topics: set[str] = set()
        for topic, kind in sorted(self._types.items()):
            try:
                writer.add(topic, kind, self._store, bag.qos(topic))
                self.topics.add(topic)
            except TypesysError:
                logger.warning("%s is not copied: nothing defines its type %s", topic, kind)

    def copy(self, message: BagMessage) -> None:
        """Write a message of one of the topics, at its time."""
        raw: bytes | memoryview = message.raw
        if self._bag.is_ros1:
            from da3_core.bag.rosbags_private import migrate_bytes

            kind = self._types[message.topic]
            raw = migrate_bytes(
                self._bag.typestore,
                self._store,
                message.type_name,
                kind,
                self._plans,
                raw,
                src_is2=False,
                dst_is2=True,
            )
        self._writer.write(message.topic, message.time_ns, raw)


def _ros2_types(ros1: Any) -> Any:
    """As ROS 2 defines them, and those that it has not as the bag does."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    store.register({name: fields for name, fields in ros1.fielddefs.items() if name not in store.fielddefs})
    return store
