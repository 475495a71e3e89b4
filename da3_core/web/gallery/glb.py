# SPDX-License-Identifier: Apache-2.0
"""How many points a GLB file holds, from the description at its beginning."""

import json
import struct
from typing import BinaryIO

from da3_core.formats.gltf import POINTS

_HEADER = struct.Struct("<4sIII4s")  # magic, version, length of the file, length and kind of the first chunk
_MOST_BYTES = 16 << 20  # of the description; one of ten thousand cameras takes six million


def count_points(file: BinaryIO) -> int | None:
    """None where the file cannot be read or is no GLB."""
    try:
        magic, _, _, length, kind = _HEADER.unpack(file.read(_HEADER.size))
        if (magic, kind) != (b"glTF", b"JSON") or length > _MOST_BYTES:
            return None
        document = json.loads(file.read(length))
        primitives = [primitive for mesh in document.get("meshes", []) for primitive in mesh["primitives"]]
        positions = [part["attributes"]["POSITION"] for part in primitives if part.get("mode") == POINTS]
        return sum(int(document["accessors"][index]["count"]) for index in positions)
    except (OSError, struct.error, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
