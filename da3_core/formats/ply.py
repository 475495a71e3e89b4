# SPDX-License-Identifier: Apache-2.0
"""Binary PLY files (Stanford, G. Turk) of one element `vertex`."""

from pathlib import Path

import numpy as np


def write_vertices(path: Path, vertices: np.ndarray, comment: str | None = None) -> None:
    """Writes a structured array as the element `vertex` of a binary little-endian PLY file (Stanford, G. Turk)."""
    assert vertices.dtype.names is not None
    types = {"<f4": "float", "|u1": "uchar"}
    properties = [f"property {types[vertices.dtype[name].str]} {name}" for name in vertices.dtype.names]
    comments = [] if comment is None else [f"comment {comment}"]
    elements = [f"element vertex {len(vertices)}", *properties]
    header = ["ply", "format binary_little_endian 1.0", *comments, *elements, "end_header"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())
