# SPDX-License-Identifier: Apache-2.0
"""Storage files whose end is missing, since the recorder was killed, the disk was full or the copy broke off."""

from __future__ import annotations

import io
import sqlite3
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from backports import zstd
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag1 import ReaderError as Rosbag1Error
from rosbags.rosbag2 import ReaderError

from da3_core.bag.rosbags_private import (
    ChunkInfo,
    Header,
    IndexData,
    McapReader,
    ReaderMetadata,
    RecordType,
    Sqlite3Reader,
    decompress,
    parse_qos,
    read_bytes,
    read_uint32,
)

CHUNK, DATA_END = 0x06, 0x0F
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def _plain(data: bytes) -> bytes:
    """A message without its compression, which metadata.yaml tells of; no message begins like that itself."""
    return zstd.decompress(data) if data.startswith(ZSTD_MAGIC) else data


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
        read = super().messages if self.chunks else self.messages_scan
        for connection, time_ns, data in read(connections, start, stop):
            yield connection, time_ns, _plain(data)

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
                yield wanted[topic], time_ns, _plain(data)


class SalvagedRosbag1(Rosbag1Reader):  # type: ignore[misc]
    """Makes the index of a ROS 1 bag anew, of the chunks that are whole."""

    def open(self) -> None:
        self.bio = self.path.open("rb")
        if self.bio.readline() != b"#ROSBAG V2.0\n":
            self.close()
            raise Rosbag1Error("File magic is invalid.")
        connections: dict[int, Any] = {}
        indexes: dict[int, list[IndexData]] = defaultdict(list)
        with suppress(Exception):  # whatever parsers and decompressors raise where the file breaks off
            while True:
                position = self.bio.tell()
                if Header.read(self.bio).get_uint8("op") == RecordType.CHUNK:
                    self.bio.seek(position)
                    self._index_chunk(position, connections, indexes)
                else:
                    read_bytes(self.bio, read_uint32(self.bio))
        self.indexes = {each: sorted(indexes[each]) for each in connections}
        self.connections = [
            each._replace(msgcount=len(self.indexes[each.id])) for each in connections.values() if indexes[each.id]
        ]

    def _index_chunk(self, position: int, connections: dict[int, Any], indexes: dict[int, list[IndexData]]) -> None:
        """Take in what the chunk here holds, if all of it can be read."""
        assert self.bio
        file, chunk = self.bio, self.read_chunk()
        file.seek(chunk.datapos)
        content = io.BytesIO(chunk.decompressor(read_bytes(file, chunk.datasize)))
        found, times = [], []
        while content.tell() < len(content.getbuffer()):
            offset = content.tell()
            header = Header.read(content)
            if header.get_uint8("op") == RecordType.CONNECTION:
                content.seek(offset)
                self.bio = content  # where the parser of connections reads
                found.append(self.read_connection())
                self.bio = file
            else:
                read_bytes(content, read_uint32(content))
                times.append((header.get_uint32("conn"), IndexData(header.get_time("time"), position, offset)))
        connections.update({each.id: each for each in found if each.id not in connections})
        for connection, entry in times:
            indexes[connection].append(entry)
        self.chunks[position] = chunk
        first, last = min(each.time for _, each in times), max(each.time for _, each in times)
        self.chunk_infos.append(ChunkInfo(position, first, last + 1, dict(Counter(each for each, _ in times))))


def salvage(path: Path, reader: Any) -> Any:
    """The reader for a storage file in place of rosbags' `reader`."""
    if path.suffix == ".bag":
        return SalvagedRosbag1(path)
    reader.storage = {".mcap": SalvagedMcap, ".db3": SalvagedSqlite3}[path.suffix](path)
    return reader
