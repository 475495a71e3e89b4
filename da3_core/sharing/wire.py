# SPDX-License-Identifier: Apache-2.0
"""What travels between two processes: a header of JSON and arrays of numbers, so that reading runs nobody's code."""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

_LENGTH = struct.Struct("<I")
_NUMBERS = "biuf"  # kinds of arrays that hold nothing but numbers


class Damaged(ConnectionError):
    """What came is no message; nothing after it can be read either."""


def send(connection: socket.socket, header: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Hand over one message.

    Args:
        header: what JSON can say.
        arrays: of numbers.

    Raises:
        OSError: nobody is at the other end any more.
    """
    contiguous = [np.asarray(each, order="C") for each in arrays]
    shapes = [(each.dtype.str, each.shape) for each in contiguous]
    text = json.dumps({"header": header, "arrays": shapes}).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for each in contiguous:
        connection.sendall(each.reshape(-1).view(np.uint8).data)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Wait for one message.

    Raises:
        Damaged: it is none.
        OSError: the other end is closed.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    try:
        message = json.loads(_read(connection, length))
        shapes = [(np.dtype(kind), tuple(map(int, shape))) for kind, shape in message["arrays"]]
        header: dict[str, Any] = dict(message["header"])
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"a message is damaged ({error})") from error
    if any(kind.kind not in _NUMBERS or min(shape, default=0) < 0 for kind, shape in shapes):
        raise Damaged("a message holds arrays of something else than numbers")
    return header, [
        np.frombuffer(_read(connection, kind.itemsize * math.prod(shape)), kind).reshape(shape)
        for kind, shape in shapes
    ]


def _read(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other process has ended")
        view = view[count:]
    return data
