# SPDX-License-Identifier: Apache-2.0
"""mcap files whose end is missing, since the recorder was killed, the disk was full or the copy broke off."""

from __future__ import annotations

import io
import struct
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Any

from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader, decompress

CHUNK, FOOTER = 0x06, 0x02


class SalvagedMcap(McapReader):  # type: ignore[misc]
    """Reads up to the last record that is whole, in the order of the file."""

    def _open(self) -> None:
        try:
            super()._open()
        except ReaderError:
            if not self.data_start:  # not even the head is right
                raise
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
            if kind in (0, FOOTER) or following > end or (kind == CHUNK and not _is_whole_chunk(file.read(size))):
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


def salvaged(path: Path) -> Any:
    """A reader for the storage file, or None where the usual one is as good as any."""
    return SalvagedMcap(path) if path.suffix == ".mcap" else None
