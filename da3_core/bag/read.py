# SPDX-License-Identifier: Apache-2.0
"""Bags, whole and damaged: their topics, and their messages one by one, as far as they can be read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from da3_core.errors import InputError

logger = logging.getLogger(__name__)

STORAGE_SUFFIXES = (".mcap", ".db3", ".bag")
INSTALL = "reading bags needs the package 'rosbags': pip install 'da3_ros[bag]'"


class BagMessage(NamedTuple):
    """A message as it lies in the bag: its topic, the time it was recorded at, and its bytes."""

    topic: str
    time_ns: int
    raw: bytes
    type_name: str


class BagReader:
    """A bag from construction to `close`.

    Attributes:
        path: as given: a folder, or one `.mcap`, `.db3` or `.bag` file.
        types: the type of every topic, such as `sensor_msgs/msg/Image`.
        counts: the messages of every topic.
        start_ns, end_ns: time of the first message, and just after the last one.
        damage: what is wrong with the bag, in words; None while nothing is known to be.
    """

    def __init__(self, path: Path) -> None:
        """Open a bag; of a damaged one, what can be read.

        Raises:
            InputError: no bag, or nothing of it can be read.
        """
        self.path = path
        self.damage: str | None = None
        self._reader = self._open()
        connections = self._reader.connections
        self.types: dict[str, str] = {connection.topic: connection.msgtype for connection in connections}
        self.counts = dict.fromkeys(self.types, 0)
        for connection in connections:
            self.counts[connection.topic] += connection.msgcount
        self.start_ns, self.end_ns = int(self._reader.start_time), int(self._reader.end_time)

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):  # type: ignore[no-untyped-def]
        self._reader.close()

    @property
    def typestore(self) -> Any:
        """The types of this bag's messages, as recorded with them."""
        return self._reader.typestore

    @property
    def is_ros1(self) -> bool:
        return not self._reader.is2

    def qos(self, topic: str) -> list[Any]:
        """The profiles that a topic was offered with; in ROS 1 it may have been latched."""
        connection = next(each for each in self._reader.connections if each.topic == topic)
        if not self.is_ros1:
            return list(connection.ext.offered_qos_profiles)
        from da3_core.bag.rosbags_private import LATCH

        return LATCH if connection.ext.latching else []

    def decode(self, message: BagMessage) -> Any:
        """The fields of a message. Raises InputError when its bytes are not such a message, which is damage."""
        try:
            return self._reader.deserialize(message.raw, message.type_name)
        except Exception as error:  # whatever wrong bytes make a parser raise
            damage = f"a message of {message.topic} in {self.path} is damaged ({_in_words(error)})"
            self.damage = self.damage or damage
            raise InputError(damage) from error

    def first(self, topic: str) -> Any:
        """The first message of a topic, decoded; None where there is none."""
        for message in self.messages([topic]):
            return self.decode(message)
        return None

    def messages(
        self, topics: Collection[str], start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order of their recording, from `start_ns` to before `stop_ns`.

        Where the bag is damaged they end, and `damage` says so.
        """
        connections = [each for each in self._reader.connections if each.topic in topics]
        if not connections:
            return
        messages = self._reader.messages(connections, start_ns, stop_ns)
        while True:
            try:
                connection, time_ns, raw = next(messages)
            except StopIteration:
                return
            except Exception as error:  # whatever damaged files make parsers and decompressors raise
                self.damage = self.damage or f"{self.path} is damaged ({_in_words(error)})"
                return
            yield BagMessage(connection.topic, time_ns, raw, connection.msgtype)

    def _open(self) -> Any:
        try:
            from rosbags.highlevel import AnyReader  # noqa: F401
        except ImportError as error:
            raise InputError(INSTALL) from error
        if not self.path.exists():
            raise InputError(f"{self.path} does not exist: give a bag, a folder or a .mcap, .db3 or .bag file")
        is_storage = self.path.suffix in STORAGE_SUFFIXES
        if self.path.is_file() and not is_storage:
            raise InputError(f"{self.path} is no bag: give a folder, or a file ending in {', '.join(STORAGE_SUFFIXES)}")
        try:
            return _opened([self.path])
        except Exception as error:  # as above
            self.damage = f"{self.path} is damaged ({_in_words(error)})"
            return self._open_files()

    def _open_files(self) -> Any:
        """The storage files by themselves, without metadata.yaml; those that cannot be read are left out."""
        files = (
            [self.path] if self.path.is_file() else sorted(self.path.glob("*.mcap")) + sorted(self.path.glob("*.db3"))
        )
        readable = []
        for file in files:
            try:
                _opened([file], is_damaged=True).close()
                readable.append(file)
            except Exception as error:  # as above
                logger.warning("%s cannot be read: %s", file, _in_words(error))
        if not readable:
            raise InputError(f"{self.damage}, and nothing of it can be read: reindex it with the tools of ROS")
        return _opened(readable, is_damaged=True)


def _opened(paths: list[Path], is_damaged: bool = False) -> Any:
    """rosbags' reader; with readers of our own for files that are damaged."""
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    reader = AnyReader(paths, default_typestore=get_typestore(Stores.LATEST))
    if is_damaged:
        from da3_core.bag.salvage import salvage

        readers: Any = [salvage(path, usual) for path, usual in zip(paths, reader.readers, strict=True)]
        reader.readers = readers
    reader.open()
    return reader


def _in_words(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
