# SPDX-License-Identifier: Apache-2.0
"""SQLite files of rosbag2, with their write-ahead log, and as far as they go where their end is missing."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from da3_core.bag.channel import Channel, FileMessage, qos_profiles, ros_type, without_compression
from da3_core.bag.unpacked import unpacking_folder
from da3_core.errors import InputError

logger = logging.getLogger(__name__)

LOG_SUFFIX = "-wal"
_CHUNK_BYTES = 1 << 20
IS_MESSAGE = "typeof(timestamp) = 'integer' AND typeof(data) = 'blob'"


class SqliteFile:
    """See `BagFile`. Of a damaged file, messages come as they were written, up to the first page that is wrong."""

    def __init__(self, path: Path, open_file: Callable[[Path], BinaryIO]) -> None:
        """Raises InputError when it is no such file, or there is no room for a copy of one with a log."""
        self._open_file = open_file
        self.channels: list[Channel] = []
        self.start_ns = self.end_ns = 0
        self.damage: str | None = None
        self._stack = ExitStack()
        self._folder: Path | None = None  # of a copy
        self._path = self._with_log(path)
        self._database = self._connect()
        try:
            if self._folder is None and self._is_cut():
                raise sqlite3.DatabaseError("its end is missing")
            self._read_channels()
            return
        except sqlite3.Error as error:
            self.damage = str(error)
        self._database.close()
        self._database = self._connect()
        try:
            # Without the pragma, which is there for repairs, a file shorter than its head says is refused.
            self._database.execute("PRAGMA writable_schema=ON")
            self._read_channels()
        except sqlite3.Error as error:
            self.close()
            raise InputError(str(error)) from error

    def close(self) -> None:
        self._database.close()
        self._stack.close()

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        wanted = {number: channel for number, channel in self._by_number.items() if channel in channels}
        start, stop = self.start_ns if start_ns is None else start_ns, self.end_ns if stop_ns is None else stop_ns
        if self.damage is None:
            numbers = ", ".join(map(str, wanted))
            rows: Iterator[tuple[int, int, bytes]] = self._database.execute(
                f"SELECT topic_id, timestamp, data FROM messages WHERE {IS_MESSAGE} AND topic_id IN ({numbers}) "
                "AND timestamp >= ? AND timestamp < ? ORDER BY timestamp, id",
                (start, stop),
            )
        else:
            rows = self._rows_before_damage("data")
        for number, time_ns, data in rows:
            if number in wanted and start <= time_ns < stop:
                channel = wanted[number]
                yield channel, time_ns, without_compression(data) if channel.encoding == "cdr" else data

    def _with_log(self, path: Path) -> Path:
        """The file, or a copy beside a copy of its log, since reading both writes to them."""
        log = path.with_name(path.name + LOG_SUFFIX)
        if not log.is_file() or not log.stat().st_size:
            return path
        logger.info("%s has messages in %s: a copy of both is read", path, log.name)
        self._folder = self._stack.enter_context(unpacking_folder())
        try:
            for each in (path, log):
                with self._open_file(each) as source, (self._folder / each.name).open("wb") as copy:
                    shutil.copyfileobj(source, copy, _CHUNK_BYTES)
        except OSError as error:
            self._stack.close()
            raise InputError(f"{path} and its log cannot be copied to read them ({error.strerror})") from error
        self._open_file = lambda own: own.open("rb")
        return self._folder / path.name

    def _connect(self) -> sqlite3.Connection:
        """SQLite opens files by their path alone; what it has opened must be what `open_file` opens."""
        only_read = "?immutable=1" if self._folder is None else ""
        with self._open_file(self._path) as file:
            before = _open_descriptors(file)
            database = sqlite3.connect(f"file:{quote(str(self._path))}{only_read}", uri=True)
            if _open_descriptors(file) > before:
                return database
        database.close()
        raise InputError(f"{self._path} was moved or replaced meanwhile")

    def _is_cut(self) -> bool:
        """Whether the file is shorter than its head says."""
        with self._open_file(self._path) as file:
            head = file.read(32).ljust(32, b"\0")
            size = os.fstat(file.fileno()).st_size
        [page_bytes], [pages] = struct.unpack_from(">H", head, 16), struct.unpack_from(">I", head, 28)
        return size < int(pages) * (1 << 16 if page_bytes == 1 else int(page_bytes))

    def _read_channels(self) -> None:
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(topics)")}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        topics = self._database.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics").fetchall()
        definitions = self._definitions()
        counts: dict[int, int] = {}
        times: list[int] = []
        for number, count, first, last in self._statistics():
            counts[number] = counts.get(number, 0) + count
            times += [first, last]
        self._by_number = {
            number: Channel(
                name,
                ros_type(kind),
                encoding,
                *definitions.get(kind, ("", b"")),
                count=counts.get(number, 0),
                qos=qos_profiles(profiles),
            )
            for number, name, kind, encoding, profiles in topics
        }
        self.channels = list(self._by_number.values())
        self.start_ns, self.end_ns = (min(times), max(times) + 1) if times else (0, 0)

    def _statistics(self) -> Iterator[tuple[int, int, int, int]]:
        """Topic, number of messages, first and last time; of a damaged file, a row for every message."""
        if self.damage is None:
            yield from self._database.execute(
                "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages "
                f"WHERE {IS_MESSAGE} GROUP BY topic_id"
            )
        else:
            yield from ((number, 1, time_ns, time_ns) for number, time_ns, _ in self._rows_before_damage("NULL"))

    def _rows_before_damage(self, data: str) -> Iterator[tuple[int, int, bytes]]:
        query = f"SELECT topic_id, timestamp, {data} FROM messages NOT INDEXED WHERE {IS_MESSAGE} ORDER BY id"
        with suppress(sqlite3.Error):  # here the file breaks off, as is known already
            yield from self._database.execute(query)

    def _definitions(self) -> dict[str, tuple[str, bytes]]:
        """Format and text by the type; bags of old distributions have none."""
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        try:
            rows = self._database.execute(query).fetchall()
        except sqlite3.Error:
            return {}
        return {kind: (definition_format, text.encode()) for kind, definition_format, text in rows}


def _open_descriptors(file: BinaryIO) -> int:
    """How many descriptors of this process have the same file open."""
    found, same = os.fstat(file.fileno()), 0
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # closed by now
            same += os.path.samestat(os.fstat(int(name)), found)
    return same
