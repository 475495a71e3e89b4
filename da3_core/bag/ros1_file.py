# SPDX-License-Identifier: Apache-2.0
"""Files of ROS 1, whole ones by their index, cut ones by the chunks that are whole."""

from __future__ import annotations

import bz2
import io
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

import lz4.frame  # type: ignore[import-untyped]
from rosbags.rosbag1 import Reader, ReaderError

from da3_core.bag.channel import MOST_BYTES, Channel, FileMessage, decompressed
from da3_core.bag.rosbags_private import (
    LATCH,
    ChunkInfo,
    Header,
    IndexData,
    RecordType,
    decompressors,
    read_bytes,
    read_uint32,
)
from da3_core.storage.opened_folder import path_of

BOUNDED = {decompressors["bz2"]: bz2.BZ2Decompressor, decompressors["lz4"]: lz4.frame.LZ4FrameDecompressor}


class Ros1File:
    """See `BagFile`."""

    def __init__(self, file: BinaryIO) -> None:
        """Take over an open file. Raises an exception of `rosbags` when nothing of it can be read."""
        self.damage: str | None = None
        self._file, path = file, path_of(file.fileno())
        self._reader = _BoundedReader(path)
        try:
            self._reader.open()
        except Exception as error:  # whatever a wrong index makes a parser raise
            self.damage = str(error) or type(error).__name__
            self._reader = _SalvagedReader(path)
            try:
                self._reader.open()
            except BaseException:
                file.close()
                raise
        connections: list[Any] = self._reader.connections
        self._connections = [
            (
                Channel(
                    each.topic,
                    each.msgtype,
                    "ros1",
                    "ros1msg",
                    each.msgdef.data.encode(),
                    each.msgcount,
                    LATCH if each.ext.latching else [],
                ),
                each,
            )
            for each in connections
        ]
        self.channels = [channel for channel, _ in self._connections]
        has_messages = any(channel.count for channel in self.channels)
        self.start_ns = self._reader.start_time if has_messages else 0
        self.end_ns = self._reader.end_time if has_messages else 0

    def close(self) -> None:
        self._reader.close()
        self._file.close()

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        wanted = {each.id: channel for channel, each in self._connections if channel in channels}
        connections = [each for channel, each in self._connections if channel in channels]
        for connection, time_ns, raw in self._reader.messages(connections, start_ns, stop_ns):
            yield wanted[connection.id], time_ns, raw


class _BoundedReader(Reader):  # type: ignore[misc]
    """Of chunks without their compression, none is larger than memory has room for."""

    def read_chunk(self) -> Any:
        chunk = super().read_chunk()
        make = BOUNDED.get(chunk.decompressor)
        return chunk._replace(decompressor=partial(decompressed, make, most=MOST_BYTES)) if make else chunk


class _SalvagedReader(_BoundedReader):
    """Makes the index of a ROS 1 bag anew, of the chunks that are whole."""

    def open(self) -> None:
        self.bio = self.path.open("rb")
        if self.bio.readline() != b"#ROSBAG V2.0\n":
            self.close()
            raise ReaderError("File magic is invalid.")
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
