# SPDX-License-Identifier: Apache-2.0
"""Topics into an mcap bag: messages are written as they came over the wire, never unpacked.

Their definitions are stored with them, so that Foxglove and other readers need not know this package.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from da3_core.bag.messages import typestore
from da3_ros.messages import message_class


@dataclass(frozen=True)
class Topic:
    """What to record: a name, the type of its messages, and whether late subscribers get the last ones (latched)."""

    name: str
    type: str
    latched: bool = False


class Recorder:
    """Subscribes in a thread of its own and writes until closed."""

    def __init__(self, folder: Path, topics: Iterable[Topic], context: Context) -> None:
        self._counts: Counter[str] = Counter()
        self._failure: OSError | None = None
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._node = Node("recorder", context=context)
        self._store = typestore()
        for topic in topics:
            self._record(topic)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._writer.close()

    def count(self, topic: str) -> int:
        """Messages written so far.

        Raises:
            OSError: the bag cannot be written any more.
        """
        if self._failure is not None:
            raise self._failure
        return self._counts[topic]

    def is_subscribed(self, topic: str) -> bool:
        """Whether somebody besides this recorder subscribes to a topic."""
        return self._node.count_subscribers(topic) > 1

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _record(self, topic: Topic) -> None:
        connection = self._writer.add_connection(
            topic.name, topic.type, typestore=self._store, offered_qos_profiles=[offered_qos(topic.latched)]
        )

        def write(cdr: bytes) -> None:
            try:
                self._writer.write(connection, self._node.get_clock().now().nanoseconds, cdr)
            except OSError as error:
                self._failure = error
            self._counts[topic.name] += 1

        durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        self._node.create_subscription(message_class(topic.type), topic.name, write, qos, raw=True)


def offered_qos(latched: bool) -> Qos:
    """The profile that a player of the bag publishes with."""
    unset = QosTime(0, 0)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=unset,
        lifespan=unset,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=unset,
        avoid_ros_namespace_conventions=False,
    )
