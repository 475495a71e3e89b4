# SPDX-License-Identifier: Apache-2.0
"""Storage files whose end is missing, since the recorder was killed, the disk was full or the copy broke off."""

from __future__ import annotations

import io
import sqlite3
import struct
import sys
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos
from rosbags.rosbag2.storage_mcap import McapReader, decompress
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

CHUNK, DATA_END = 0x06, 0x0F


class SalvagedMcap(McapReader):  # type: ignore[misc]
    """Reads up to the last record that is whole, in the order of the file."""

    def _open(self) -> None:
        try:
            super()._open()
        except Exception:  # whatever a wrong index makes a parser raise
            if not self.data_start:  # not even the head is right
                raise
            for known in (self.schemas, self.channels, self.chunks, self.connections):
                known.clear()
            self.data_end = self._end_of_whole_records()
            self.meta_scan()
            found = self.statistics
            assert found
            self.connections = [
                each._replace(msgcount=found.channel_message_counts.get(each.id, 0)) for each in self.connections
            ]
            if found.message_count:
                self.metadata = self.metadata._replace(
                    duration=found.end_time - found.start_time + 1,
                    start_time=found.start_time,
                    end_time=found.end_time + 1,
                    message_count=found.message_count,
                )

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Any, int, bytes], None, None]:
        yield from (
            super().messages(connections, start, stop) if self.chunks else self.messages_scan(connections, start, stop)
        )

    def _end_of_whole_records(self) -> int:
        """Where the first record begins that is cut off or cannot be decompressed."""
        file = self.bio
        assert file
        end = file.seek(0, io.SEEK_END)
        position = file.seek(self.data_start)
        while position + 9 <= end:
            kind, size = struct.unpack("<BQ", file.read(9))
            following = position + 9 + size
            if kind in (0, DATA_END) or following > end or (kind == CHUNK and not _is_whole_chunk(file.read(size))):
                break
            position = file.seek(following)
        return int(position)


def _is_whole_chunk(record: bytes) -> bool:
    """By its checksum and its compression."""
    try:
        *_, size, checksum, name_bytes = struct.unpack_from("<QQQII", record)
        content = 32 + name_bytes + 8
        decompress(record[content:], record[32 : 32 + name_bytes].decode(), size, checksum)
    except Exception:  # whatever a decompressor raises
        return False
    return True


class SalvagedSqlite3(Sqlite3Reader):  # type: ignore[misc]
    """Reads messages in the order in which they were written, up to the first page that is missing or wrong."""

    def open(self) -> None:
        try:
            # Without the pragma, which is there for repairs, a file shorter than its head says is refused.
            self._database = sqlite3.connect(f"file:{quote(str(self.path))}?immutable=1", uri=True)
            self._database.execute("PRAGMA writable_schema=ON")
            self._open()
        except sqlite3.Error as error:
            raise ReaderError(f"Cannot open database {self.path}: {error}") from error

    def close(self) -> None:
        self._database.close()

    def _open(self) -> None:
        columns = {row[1] for row in self._database.execute("PRAGMA table_info(topics)")}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        topics = self._database.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics").fetchall()
        definitions = self._definitions()
        counts: Counter[int] = Counter()
        first, last = sys.maxsize, 0
        for topic, time_ns, _ in self._rows("NULL"):
            counts[topic] += 1
            first, last = min(first, time_ns), max(last, time_ns)
        self.connections = [
            Connection(
                topic,
                name,
                kind,
                definitions.get(kind, MessageDefinition(MessageDefinitionFormat.NONE, "")),
                "",
                counts[topic],
                ConnectionExtRosbag2(serialization, parse_qos(profiles) if profiles else []),
                self,
            )
            for topic, name, kind, serialization, profiles in topics
        ]
        count = counts.total()
        self.metadata = ReaderMetadata(
            last - first + 1 if count else 0, first, last + 1 if count else 0, count, None, None, None, None
        )

    def _definitions(self) -> dict[str, Any]:
        """Of messages by their type; bags of old distributions have none."""
        formats = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        try:
            rows = self._database.execute(query).fetchall()
        except sqlite3.Error:
            return {}
        return {
            kind: MessageDefinition(formats[encoding], text) for kind, encoding, text in rows if encoding in formats
        }

    def _rows(self, data: str) -> Iterator[tuple[int, int, bytes]]:
        query = (
            f"SELECT topic_id, timestamp, {data} FROM messages NOT INDEXED "
            "WHERE typeof(timestamp) = 'integer' AND typeof(data) = 'blob' ORDER BY id"
        )
        with suppress(sqlite3.Error):  # here the file breaks off, as is known already
            yield from self._database.execute(query)

    def messages(
        self, connections: Collection[Any], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Any, int, bytes], None, None]:
        wanted = {each.id: each for each in connections}
        for topic, time_ns, data in self._rows("data"):
            if topic in wanted and (start is None or start <= time_ns) and (stop is None or time_ns < stop):
                yield wanted[topic], time_ns, data


SALVAGED = {".mcap": SalvagedMcap, ".db3": SalvagedSqlite3}


def salvaged(path: Path) -> Any:
    """A reader for the storage file, or None where the usual one is as good as any."""
    reader = SALVAGED.get(path.suffix)
    return reader and reader(path)
