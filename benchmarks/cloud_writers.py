# SPDX-License-Identifier: Apache-2.0
"""Our writers of GLB and PLY clouds beside trimesh's: processor time of the first and of a later export, and bytes.

`python benchmarks/cloud_writers.py` measures 8 views of 504 x 378, each writer in a process of its own.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from da3_core.export import glb
from da3_core.export.points import confident_pixels, extract_points
from da3_core.formats.gltf import LINES, Mesh, glb_bytes
from da3_core.formats.ply import write_vertices
from da3_core.prediction import Prediction

VIEWS, HEIGHT, WIDTH = 8, 378, 504


def scene() -> Prediction:
    random = np.random.default_rng(0)
    shape = (VIEWS, HEIGHT, WIDTH)
    extrinsics = np.tile(np.eye(4, dtype=np.float32), (VIEWS, 1, 1))
    extrinsics[:, 0, 3] = -0.1 * np.arange(VIEWS)
    matrix = np.array([[400, 0, WIDTH / 2], [0, 400, HEIGHT / 2], [0, 0, 1]], np.float32)
    return Prediction(
        3 + random.random(shape).astype(np.float32),
        conf=1 + random.random(shape).astype(np.float32),
        extrinsics=extrinsics,
        intrinsics=np.tile(matrix, (VIEWS, 1, 1)),
        processed_images=random.integers(0, 255, (*shape, 3), dtype=np.uint8),
    )


def with_alpha(colors: np.ndarray) -> np.ndarray:
    return np.hstack([colors, np.full((len(colors), 1), 255, np.uint8)])


def trimesh_glb(meshes: list[Mesh], extras: dict[str, object]) -> bytes:
    import trimesh
    import trimesh.path.entities

    made = trimesh.Scene()
    made.metadata.update(extras)
    for mesh in meshes:
        colors = with_alpha(mesh.colors)
        if mesh.mode == LINES:
            lines = [trimesh.path.entities.Line([i, i + 1], color=colors[i]) for i in range(0, len(colors), 2)]
            drawn = trimesh.path.Path3D(lines, mesh.positions, process=False)
        else:
            drawn = trimesh.PointCloud(mesh.positions, colors=colors)
        made.add_geometry(drawn, node_name=mesh.name, geom_name=mesh.name)
    return bytes(made.export(file_type="glb"))


def export_glb(prediction: Prediction, by_trimesh: bool) -> bytes:
    meshes, extras = glb.scene_of(prediction, glb.Options())
    return trimesh_glb(meshes, extras) if by_trimesh else glb_bytes(meshes, extras)


def export_ply(prediction: Prediction, by_trimesh: bool) -> bytes:
    cloud = extract_points(prediction, prediction.depth, confident_pixels(prediction, 40.0), 1_000_000)
    if by_trimesh:
        import trimesh

        return bytes(trimesh.PointCloud(cloud.positions, colors=cloud.colors).export(file_type="ply"))
    vertices = np.zeros(len(cloud.positions), "<f4, <f4, <f4, u1, u1, u1")
    vertices.dtype.names = ("x", "y", "z", "red", "green", "blue")
    for i, name in enumerate(vertices.dtype.names):
        vertices[name] = (cloud.positions if i < 3 else cloud.colors)[:, i % 3]
    with tempfile.TemporaryDirectory() as folder:
        write_vertices(Path(folder) / "points.ply", vertices)
        return (Path(folder) / "points.ply").read_bytes()


def measure(kind: str, writer: str) -> None:
    prediction, export = scene(), {"glb": export_glb, "ply": export_ply}[kind]
    seconds, found = [], set()
    for _ in range(3):
        start = time.process_time()
        written = export(prediction, writer == "trimesh")
        seconds.append(time.process_time() - start)
        found.add(hashlib.sha256(written).hexdigest())
    times = f"first {seconds[0]:.2f} s, later {min(seconds[1:]):.2f} s"
    print(f"{kind} {writer:8} {times}, {len(written)} bytes, {len(found)} kinds")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], sys.argv[2])
    else:
        for kind in ("glb", "ply"):
            for writer in ("ours", "trimesh"):
                subprocess.run([sys.executable, __file__, kind, writer], check=True)
