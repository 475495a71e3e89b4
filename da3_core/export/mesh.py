# SPDX-License-Identifier: Apache-2.0
"""`mesh`: the surface that all depth maps agree on, `mesh.ply` in the axes of the world and `mesh.glb` for viewers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.errors import InputError
from da3_core.export.maps import each_map
from da3_core.export.points import confident_pixels, extract_points
from da3_core.geometry.fusion import Volume, fuse
from da3_core.options import LEAST_CONFIDENT, option
from da3_core.prediction import Prediction

_OPENCV_TO_GLTF = np.diag([1.0, -1.0, -1.0, 1.0])  # y down, z forward to y up, z backward
_MOST_POINTS = 2_000_000  # that say where to look for a surface


@dataclass(frozen=True)
class Options:
    voxels: int = option(192, "Voxels along the longest side of the scene, at most.", low=16, high=1024)
    voxel_size: float | None = option(
        None, "Length of a voxel's side in the unit of the depth.", low=1e-6, unset="what voxels of them need"
    )
    conf_thresh_percentile: float = option(
        LEAST_CONFIDENT,
        "This share of the pixels, the least confident, says nothing. Sky says nothing.",
        low=0,
        high=100,
    )


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """A depth map is believed up to four voxels behind its surface; what no view saw has none.

    Raises:
        InputError: no surface is left.
    """
    for one in each_map(prediction, folder):
        _write_map(one.prediction, one.folder, options)


def _write_map(prediction: Prediction, folder: Path, options: Options) -> None:
    import trimesh

    assert prediction.processed_images is not None
    assert prediction.usable_intrinsics is not None
    keep = confident_pixels(prediction, options.conf_thresh_percentile)
    cloud = extract_points(prediction, prediction.depth, keep, _MOST_POINTS)
    views = len(prediction.depth)
    extrinsics = np.tile(np.eye(4), (views, 1, 1)) if prediction.extrinsics is None else prediction.extrinsics
    if not len(cloud.positions):
        raise InputError("no pixel is left to make a mesh of: lower conf_thresh_percentile")
    volume = fuse(
        np.where(keep, prediction.depth, 0),
        prediction.processed_images,
        prediction.usable_intrinsics,
        extrinsics,
        cloud.positions,
        voxels=options.voxels,
        voxel=options.voxel_size,
    )
    vertices, faces, colors = _surface(volume)
    if not len(faces):
        raise InputError("the depth maps agree on no surface: raise voxels, or lower conf_thresh_percentile")
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)
    folder.mkdir(parents=True, exist_ok=True)
    mesh.export(folder / "mesh.ply", file_type="ply", vertex_normal=False)
    mesh.apply_transform(_OPENCV_TO_GLTF @ np.asarray(extrinsics[0], np.float64))
    mesh.export(folder / "mesh.glb", file_type="glb", include_normals=True)


def _surface(volume: Volume) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(V, 3)` vertices, `(F, 3)` faces that look outwards, and `(V, 3)` uint8 colours of what was observed."""
    from skimage.measure import marching_cubes

    if not (volume.distance.min() < 0 < volume.distance.max()):
        return np.zeros((0, 3)), np.zeros((0, 3), int), np.zeros((0, 3), np.uint8)
    found, faces, _, _ = marching_cubes(volume.distance, 0.0, gradient_direction="descent")
    # A vertex lies between two voxels; a face is only where both were seen, for each of its vertices.
    before, behind = (tuple(rounded(found).astype(int).T) for rounded in (np.floor, np.ceil))
    faces = faces[(volume.observed[before] & volume.observed[behind])[faces].all(axis=1)]
    used, faces = np.unique(faces, return_inverse=True)
    near = tuple(np.rint(found[used]).astype(int).T)
    vertices = volume.origin + found[used] * volume.voxel
    return vertices, faces.reshape(-1, 3), volume.colors[near]
