# SPDX-License-Identifier: Apache-2.0
"""Point and line clouds as a binary glTF 2.0 file (Khronos, ISO/IEC 12113), written without a scene-graph library.

Why without: `docs/benchmarks.md`, "Clouds without trimesh".
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

POINTS, LINES = 0, 1  # primitive modes
_FLOAT, _UNSIGNED_BYTE = 5126, 5121  # component types
_ARRAY_BUFFER = 34962


@dataclass(frozen=True, eq=False)
class Mesh:
    """One drawable object.

    Attributes:
        mode: `POINTS`, or `LINES` for which two successive vertices make a segment.
        positions: `(V, 3)`, V > 0, x right, y up, z backward.
        colors: `(V, 3)` uint8 RGB.
        confidence: `(V,)`, or None; an attribute of its own, `_CONFIDENCE`, which other programs pass over.
    """

    name: str
    mode: int
    positions: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray | None = None


def glb_bytes(meshes: Sequence[Mesh], extras: dict[str, Any]) -> bytes:
    """A file with the meshes in one scene that carries `extras`, any JSON value."""
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    chunks: list[bytes] = []

    def add(array: np.ndarray, component: int, **fields: Any) -> int:
        offset = sum(map(len, chunks))
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        chunks.append(array.tobytes())
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(chunks[-1]), "target": _ARRAY_BUFFER})
        accessors.append(
            {"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind, **fields}
        )
        return len(accessors) - 1

    primitives = []
    for mesh in meshes:
        positions = np.ascontiguousarray(mesh.positions, dtype="<f4")
        opaque = np.full((len(positions), 1), 255, np.uint8)
        low, high = positions.min(axis=0).tolist(), positions.max(axis=0).tolist()
        attributes = {
            "POSITION": add(positions, _FLOAT, min=low, max=high),
            "COLOR_0": add(np.hstack([mesh.colors, opaque]), _UNSIGNED_BYTE, normalized=True),
        }
        if mesh.confidence is not None:
            attributes["_CONFIDENCE"] = add(np.ascontiguousarray(mesh.confidence[:, None], "<f4"), _FLOAT)
        primitives.append({"mode": mesh.mode, "attributes": attributes})

    document = {
        "asset": {"version": "2.0", "generator": "da3_core"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes))), "extras": extras}],
        "nodes": [{"name": mesh.name, "mesh": index} for index, mesh in enumerate(meshes)],
        "meshes": [
            {"name": mesh.name, "primitives": [primitive]} for mesh, primitive in zip(meshes, primitives, strict=True)
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": sum(map(len, chunks))}],
    }
    # An empty scene is valid, empty lists are not.
    text = json.dumps({key: value for key, value in document.items() if value != []}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(chunks)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    return b"".join(
        [header, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", len(binary), b"BIN\0"), binary]
    )


def write_glb(path: Path, meshes: Sequence[Mesh], extras: dict[str, Any]) -> None:
    """The bytes of `glb_bytes` as a file."""
    path.write_bytes(glb_bytes(meshes, extras))
