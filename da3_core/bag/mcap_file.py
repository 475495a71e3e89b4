# SPDX-License-Identifier: Apache-2.0
"""MCAP files of any profile: read by their index, and without one, or with a wrong one, from front to end."""

from __future__ import annotations

import os
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO

import lz4.frame  # type: ignore[import-untyped]
from backports import zstd

from da3_core.bag.channel import (
    ROS_ENCODINGS,
    Channel,
    FileMessage,
    decompressed,
    in_order,
    qos_profiles,
    ros_type,
    without_compression,
)
from da3_core.bag.rosbags_private import LATCH
from da3_core.errors import InputError

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")  # kind and size of every record
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS, DATA_END = 1, 2, 3, 4, 5, 6, 8, 11, 15
FOOTER_BYTES = RECORD.size + 20 + len(MAGIC)
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, number, time of recording, time of publishing
INDEX_ENTRY_BYTES, INDEX_HEAD_BYTES = 16, RECORD.size + 6  # of the messages of one channel in a chunk
DECOMPRESSORS = {"lz4": lz4.frame.LZ4FrameDecompressor, "zstd": zstd.ZstdDecompressor}
TEXTS = ("ros2msg", "ros2idl", "ros1msg")


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk lies, the times of its messages, and how many each channel has; none where that is not told."""

    position: int
    start_ns: int
    end_ns: int
    counts: dict[int, int]


class _Fields:
    """The fields of a record, one after the other."""

    def __init__(self, record: bytes) -> None:
        self._record, self._at = record, 0

    @property
    def is_left(self) -> bool:
        return self._at < len(self._record)

    def numbers(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._record, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def data(self, prefix: str = "I") -> bytes:
        """Bytes after their number."""
        [size] = self.numbers(prefix)
        found = self._record[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("a record breaks off")
        self._at += size
        return found

    def text(self) -> str:
        return self.data().decode()

    def map_of(self, layout: str) -> dict[Any, Any]:
        return dict(struct.iter_unpack(f"<{layout}", self.data()))


class McapFile:
    """See `BagFile`. Without an index, messages come in the order of the file, up to the last record that is whole."""

    def __init__(self, file: BinaryIO) -> None:
        """Take over an open file. Raises InputError or OSError when not even its head is that of such a file."""
        self.channels: list[Channel] = []
        self.start_ns = self.end_ns = 0
        self.damage: str | None = None
        self._schemas: dict[int, tuple[str, str, bytes]] = {}
        self._by_number: dict[int, Channel] = {}
        self._chunks: list[_Chunk] = []
        self._file = file
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        wanted = {number: channel for number, channel in self._by_number.items() if channel in channels}
        start, stop = self.start_ns if start_ns is None else start_ns, self.end_ns if stop_ns is None else stop_ns
        chunks = [each for each in self._chunks if each.start_ns < stop and each.end_ns >= start]
        if self._chunks:
            found = in_order(
                (each.start_ns, partial(self._sorted, each, wanted))
                for each in chunks
                if not each.counts or not wanted.keys().isdisjoint(each.counts)
            )
        else:
            found = self._in_file_order(wanted)
        for channel, time_ns, raw in found:
            if start <= time_ns < stop:
                yield channel, time_ns, without_compression(raw) if channel.encoding == "cdr" else raw

    def _open(self) -> None:
        head = self._file.read(len(MAGIC) + RECORD.size)
        if not head.startswith(MAGIC) or len(head) < len(MAGIC) + RECORD.size or head[len(MAGIC)] != HEADER:
            raise InputError("its beginning is not that of an MCAP file")
        self._data_start = len(head) + RECORD.unpack(head[len(MAGIC) :])[1]
        self._data_end = self._file.seek(0, os.SEEK_END)
        try:
            if self._read_summary():
                return
        except Exception as error:  # whatever a wrong index makes a parser raise
            self.damage = str(error) or type(error).__name__
        self._scan()

    def _read_summary(self) -> bool:
        """Whether channels, counts and chunks are known by the end of the file. Raises where that is wrong."""
        end = self._data_end - FOOTER_BYTES
        self._file.seek(max(0, end))
        tail = self._file.read()
        if not tail.endswith(MAGIC) or RECORD.unpack_from(tail) != (FOOTER, 20):
            raise ValueError("its end is missing")
        summary, _, checksum = struct.unpack_from("<QQI", tail, RECORD.size)
        if not summary:
            return False
        if not self._data_start <= summary <= end:
            raise ValueError("its end points outside")
        checked = self._at(summary, end + RECORD.size + 16 - summary)  # up to the checksum
        if checksum and crc32(checked) != checksum:
            raise ValueError("the checksum of its index is wrong")
        counts, times, total = Counter[int](), (0, 0), -1
        for kind, position, size in self._records(summary, end):
            if kind == CHUNK_INDEX:
                self._chunks.append(_chunk(_Fields(self._at(position, size))))
            elif kind == STATISTICS:
                fields = _Fields(self._at(position, size))
                total, *_, first, last = fields.numbers("QHIIIIQQ")
                counts, times = Counter(fields.map_of("HQ")), (first, last)
            else:
                self._define(kind, position, size)
        in_chunks = sum((Counter(chunk.counts) for chunk in self._chunks), Counter[int]())
        if total < 0 and self._chunks:  # no statistics
            total, counts = in_chunks.total(), in_chunks
            times = min(each.start_ns for each in self._chunks), max(each.end_ns for each in self._chunks)
        if not self._by_number or total != in_chunks.total():  # left out of the summary, or messages outside of chunks
            self._chunks.clear()
            return False
        self._settle(counts, *times)
        return True

    def _scan(self) -> None:
        """Channels and counts by all that is whole."""
        self._chunks.clear()
        counts: Counter[int] = Counter()
        first, last, end = 2**64, 0, self._data_start
        try:
            for kind, position, size in self._records(self._data_start, self._data_end):
                if kind == MESSAGE:
                    self._file.seek(position)
                    heads = [MESSAGE_HEAD.unpack(self._file.read(MESSAGE_HEAD.size))]
                elif kind == CHUNK:
                    heads = [MESSAGE_HEAD.unpack_from(each) for each in self._opened(self._at(position, size))]
                else:
                    self._define(kind, position, size)
                    heads = []
                for number, _, time_ns, _ in heads:
                    counts[number] += 1
                    first, last = min(first, time_ns), max(last, time_ns)
                end = position + size
        except Exception as error:  # whatever a decompressor raises
            self.damage = self.damage or str(error) or type(error).__name__
        self._data_end = end
        self._settle(counts, first, last)

    def _settle(self, counts: Counter[int], first_ns: int, last_ns: int) -> None:
        for number, channel in self._by_number.items():
            self._by_number[number] = replace(channel, count=counts[number])
        self.channels = list(self._by_number.values())
        if counts.total():
            self.start_ns, self.end_ns = first_ns, last_ns + 1

    def _records(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Kind, position and size of the content of every record.

        Raises:
            ValueError: the last one breaks off.
        """
        while start < end:
            self._file.seek(start)
            kind, size = RECORD.unpack(self._file.read(RECORD.size).ljust(RECORD.size, b"\0"))
            start += RECORD.size
            if kind == DATA_END:
                return
            if kind == 0 or start + size > end:
                raise ValueError("its end is missing")
            yield kind, start, size
            start += size

    def _at(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        return self._file.read(size)

    def _define(self, kind: int, position: int, size: int) -> None:
        """Take in a schema or a channel."""
        if kind in (SCHEMA, CHANNEL):
            self._define_by(kind, self._at(position, size))

    def _define_by(self, kind: int, record: bytes) -> None:
        fields = _Fields(record)
        if kind == SCHEMA:
            [number] = fields.numbers("H")
            name, definition_format, definition = fields.text(), fields.text(), fields.data()
            if definition_format in TEXTS:
                definition.decode()  # raises where it was overwritten
            self._schemas[number] = name, definition_format, definition
        elif kind == CHANNEL:
            number, schema = fields.numbers("HH")
            name, definition_format, definition = self._schemas.get(schema, ("", "", b""))
            topic, encoding, metadata = fields.text(), fields.text(), _Fields(fields.data())
            notes = {}
            while metadata.is_left:
                key = metadata.text()
                notes[key] = metadata.text()
            qos = LATCH if notes.get("latching") == "1" else qos_profiles(notes.get("offered_qos_profiles", ""))
            if number not in self._by_number:
                self._by_number[number] = Channel(
                    topic,
                    ros_type(name) if encoding in ROS_ENCODINGS else name,
                    encoding,
                    definition_format,
                    definition,
                    qos=qos,
                )

    def _opened(self, chunk: bytes) -> Iterator[bytes]:
        """The messages of a chunk, with their heads; on the way, what it defines is taken in.

        Raises:
            ValueError: its checksum is wrong; others as decompressors do.
        """
        fields = _Fields(chunk)
        _, _, size, checksum = fields.numbers("QQQI")
        compression, packed = fields.text(), fields.data("Q")
        if compression and compression not in DECOMPRESSORS:
            raise ValueError(f"a chunk has the compression {compression!r}, which nothing here undoes")
        records = decompressed(DECOMPRESSORS[compression], packed, size) if compression else packed
        if len(records) != size or (checksum and crc32(records) != checksum):
            raise ValueError("the checksum of a chunk is wrong")
        at = 0
        while at < size:
            kind, length = RECORD.unpack_from(records, at)
            content = records[at + RECORD.size : at + RECORD.size + length]
            if kind == MESSAGE:
                yield content
            else:
                self._define_by(kind, content)
            at += RECORD.size + length

    def _sorted(self, chunk: _Chunk, wanted: dict[int, Channel]) -> Iterator[FileMessage]:
        """The messages of a chunk by their times."""
        self._file.seek(chunk.position)
        kind, size = RECORD.unpack(self._file.read(RECORD.size))
        if kind != CHUNK:
            raise ValueError("its index points to where no chunk is")
        found = _of_channels(self._opened(self._file.read(size)), wanted)
        return iter(sorted(found, key=lambda message: message[1]))

    def _in_file_order(self, wanted: dict[int, Channel]) -> Iterator[FileMessage]:
        for kind, position, size in self._records(self._data_start, self._data_end):
            if kind == CHUNK:
                yield from _of_channels(self._opened(self._at(position, size)), wanted)
            elif kind == MESSAGE:
                yield from _of_channels(iter([self._at(position, size)]), wanted)


def _of_channels(messages: Iterator[bytes], wanted: dict[int, Channel]) -> Iterator[FileMessage]:
    for message in messages:
        number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(message)
        if number in wanted:
            yield wanted[number], time_ns, message[MESSAGE_HEAD.size :]


def _chunk(fields: _Fields) -> _Chunk:
    """A chunk of the index. Of its messages, it tells where the list of each channel lies, not how many there are."""
    start_ns, end_ns, position, length = fields.numbers("QQQQ")
    offsets = sorted((offset, number) for number, offset in fields.map_of("HQ").items())
    [index_bytes] = fields.numbers("Q")
    ends = [offset for offset, _ in offsets] + [position + length + index_bytes]
    counts = {
        number: (end - offset - INDEX_HEAD_BYTES) // INDEX_ENTRY_BYTES
        for (offset, end), (_, number) in zip(pairwise(ends), offsets, strict=True)
    }
    return _Chunk(position, start_ns, end_ns, counts)
