# SPDX-License-Identifier: Apache-2.0
"""What the files of a bag have in common, whatever their format: channels, and messages in the order of their times."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from backports import zstd

ROS_ENCODINGS = ("cdr", "ros1")  # of messages: ROS 2 and ROS 1
MOST_BYTES = 1 << 30  # of a chunk or a message without its compression; the largest images take half of it
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, eq=False)
class Channel:
    """A topic in one file of a bag.

    Attributes:
        topic: its name.
        type_name: of its messages; of ROS as ROS 2 spells it, such as `sensor_msgs/msg/Image`.
        encoding: of its messages: `cdr` is ROS 2, `ros1`, or another, such as `protobuf` and `json`.
        definition_format: `ros2msg`, `ros2idl`, `ros1msg` or another; empty without a definition.
        definition: of the type, as recorded with it.
        count: its messages in the file.
        qos: the profiles that it was offered with, in the class of `rosbags`.
    """

    topic: str
    type_name: str
    encoding: str = "cdr"
    definition_format: str = ""
    definition: bytes = b""
    count: int = 0
    qos: list[Any] = field(default_factory=list)


FileMessage = tuple[Channel, int, bytes]  # with the time it was recorded at, in nanoseconds


class BagFile(Protocol):
    """An open file of a bag.

    Attributes:
        channels: what is in it.
        start_ns, end_ns: time of the first message, and just after the last one; equal in a file without messages.
        damage: what is wrong with it, in words; None while nothing is known to be.
    """

    channels: list[Channel]
    start_ns: int
    end_ns: int
    damage: str | None

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[FileMessage]:
        """Those of some channels in the order of their times, from `start_ns` to before `stop_ns`."""

    def close(self) -> None: ...


def in_order(parts: Iterable[tuple[int, Callable[[], Iterator[FileMessage]]]]) -> Iterator[FileMessage]:
    """The messages of parts that are in order themselves.

    Args:
        parts: the time of the first message of each, and what begins to read it, called when that time has come.
    """
    waiting = deque(sorted(parts, key=lambda part: part[0]))
    serial = count()  # of equal times, the first that was opened goes first
    reading: list[tuple[int, int, FileMessage, Iterator[FileMessage]]] = []
    while waiting or reading:
        while waiting and (not reading or waiting[0][0] <= reading[0][0]):
            messages = waiting.popleft()[1]()
            if (first := next(messages, None)) is not None:
                heapq.heappush(reading, (first[1], next(serial), first, messages))
        if not reading:
            return
        _, number, message, messages = reading[0]
        yield message
        if (following := next(messages, None)) is not None:
            heapq.heapreplace(reading, (following[1], number, following, messages))
        else:
            heapq.heappop(reading)


def without_compression(raw: bytes) -> bytes:
    """A message of ROS 2 as it was published; compressed, it begins as no message of ROS 2 does.

    Damaged or far too large, it stays as it is, for nobody to decode.
    """
    if raw.startswith(ZSTD_MAGIC):
        with suppress(zstd.ZstdError, ValueError):
            return decompressed(zstd.ZstdDecompressor, raw, MOST_BYTES)
    return raw


def decompressed(make: Callable[[], Any], packed: bytes, most: int) -> bytes:
    """What a chunk or a message is without its compression: frames, one after the other.

    Args:
        make: of a decompressor with `decompress(data, max_length)`, `eof` and `unused_data`.

    Raises:
        ValueError: it is cut off, or larger than `most` bytes, as a few kilobytes may be that mean harm; others as
            decompressors do.
    """
    parts, left = [], min(most, MOST_BYTES) + 1  # one more, so that the end of a frame is seen
    while packed:
        frame = make()
        parts.append(frame.decompress(packed, max_length=left))
        left -= len(parts[-1])
        if left < 1 or not frame.eof:
            raise ValueError(f"it is cut off, or larger than {min(most, MOST_BYTES)} bytes without its compression")
        packed = frame.unused_data or b""
    return b"".join(parts)


def qos_profiles(text: str) -> list[Any]:
    """The profiles that a recorder noted; none where somebody edited them into what cannot be read."""
    from da3_core.bag.rosbags_private import parse_qos

    try:
        return list(parse_qos(text))
    except Exception:  # whatever a missing key or another type makes the parser raise
        return []


def ros_type(name: str) -> str:
    """`sensor_msgs/Image` as ROS 2 spells it."""
    package, _, kind = name.partition("/")
    return name if not kind or "/" in kind else f"{package}/msg/{kind}"
