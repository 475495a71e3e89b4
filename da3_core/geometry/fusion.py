# SPDX-License-Identifier: Apache-2.0
"""From depth maps of one world to one signed distance (Curless and Levoy 1996): the surface that they agree on."""

from dataclasses import dataclass

import numpy as np

from da3_core.geometry.cameras import to_homogeneous

BLOCK = 8  # voxels along a side of what is looked at near points
TRUNCATION = 4  # voxels before and behind a surface that a depth map says something about
_SPREAD = (0.5, 99.5)  # percentiles of the points between which the volume lies
_MARGIN = 1.05  # of its sides


@dataclass(frozen=True, eq=False)
class Volume:
    """A box of voxels, `X Y Z` of them along the axes of the world.

    Attributes:
        origin: `(3,)` centre of the first voxel.
        voxel: length of a side, in the unit of the world.
        distance: `(X, Y, Z)` float32 from -1 behind to 1 before the surface, in truncations; 1 where nothing was seen.
        observed: `(X, Y, Z)` bool.
        colors: `(X, Y, Z, 3)` uint8 RGB, 0 where no surface is near.
    """

    origin: np.ndarray
    voxel: float
    distance: np.ndarray
    observed: np.ndarray
    colors: np.ndarray


def fuse(
    depth: np.ndarray,
    images: np.ndarray,
    intrinsics: np.ndarray,
    extrinsics: np.ndarray,
    points: np.ndarray,
    *,
    voxels: int,
    voxel: float | None = None,
) -> Volume:
    """The mean over the views of the distance of voxels to the surface, along the optical axes.

    Args:
        depth: `(N, H, W)` z-depth; what is not positive says nothing.
        images: `(N, H, W, 3)` uint8 RGB.
        intrinsics: `(N, 3, 3)` pixels of the depth maps.
        extrinsics: `(N, 4, 4)` or `(N, 3, 4)` world-to-camera.
        points: `(P, 3)`, P > 0, of the surface, near which voxels are looked at.
        voxels: along the longest side of the box, at most.
        voxel: length of a side; by default what `voxels` of them need.
    """
    low, high = np.percentile(points, _SPREAD, axis=0).astype(np.float64)
    middle, sides = (low + high) / 2, (high - low) * _MARGIN
    longest = float(sides.max()) or 1.0
    side = max(voxel or 0.0, longest / voxels)
    blocks = np.ceil(np.maximum(sides, side) / (side * BLOCK)).astype(int)
    origin = middle - blocks * BLOCK * side / 2 + side / 2

    near = _voxels_near(points, origin, side, blocks)  # (V, 3)
    where = (origin + near * side).astype(np.float32)
    distances, weights = np.zeros((2, len(near)), np.float32)
    colors, color_weights = np.zeros((len(near), 3), np.float32), np.zeros(len(near), np.float32)
    for view, world_to_camera in enumerate(to_homogeneous(extrinsics)):
        seen, signed, at = _seen(where, depth[view], intrinsics[view], world_to_camera, TRUNCATION * side)
        distances[seen] += np.minimum(signed, 1)
        weights[seen] += 1
        is_near = np.abs(signed) < 1
        colors[seen[is_near]] += images[view].reshape(-1, 3)[at[is_near]]
        color_weights[seen[is_near]] += 1

    shape = tuple(blocks * BLOCK)
    place = tuple(near.T)
    volume = Volume(origin, side, np.ones(shape, np.float32), np.zeros(shape, bool), np.zeros((*shape, 3), np.uint8))
    volume.distance[place] = np.where(weights > 0, distances / np.maximum(weights, 1), 1)
    volume.observed[place] = weights > 0
    volume.colors[place] = np.rint(colors / np.maximum(color_weights, 1)[:, None])
    return volume


def _voxels_near(points: np.ndarray, origin: np.ndarray, side: float, blocks: np.ndarray) -> np.ndarray:
    """`(V, 3)` numbers of the voxels in the blocks that hold points, and in the blocks around these."""
    found = np.floor((points - (origin - side / 2)) / (side * BLOCK)).astype(int)
    found = np.unique(found[((found >= 0) & (found < blocks)).all(axis=1)], axis=0)
    around = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    wide = np.unique((found[:, None] + around).reshape(-1, 3), axis=0)
    wide = wide[((wide >= 0) & (wide < blocks)).all(axis=1)]
    inside = np.stack(np.meshgrid(*[range(BLOCK)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray((wide[:, None] * BLOCK + inside).reshape(-1, 3))


def _seen(
    points: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, world_to_camera: np.ndarray, truncation: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the points before the surface or just behind it: numbers, distances in truncations, and pixels row by row."""
    height, width = depth.shape
    camera = points @ world_to_camera[:3, :3].T.astype(np.float32) + world_to_camera[:3, 3].astype(np.float32)
    seen = np.flatnonzero(camera[:, 2] > 1e-6)
    projected = camera[seen] @ intrinsics.T.astype(np.float32)
    pixels = np.floor(projected[:, :2] / projected[:, 2:])  # pixel edges at integers
    inside = ((pixels >= 0) & (pixels < (width, height))).all(axis=1)
    seen, pixels = seen[inside], pixels[inside].astype(np.intp)
    at = pixels[:, 1] * width + pixels[:, 0]
    there = depth.reshape(-1)[at]
    signed = (there - camera[seen, 2]) / np.float32(truncation)
    kept = np.isfinite(there) & (there > 0) & (signed > -1)
    return seen[kept], signed[kept], at[kept]
