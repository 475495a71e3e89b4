# SPDX-License-Identifier: Apache-2.0
"""A cloud of voxels that views add to, each with its colour and confidence; what a later view sees through fades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.cameras import invert_rigid

MOST_HITS = 8  # that count: what has been seen for long fades as fast as that
SEEN_THROUGH = 0.05  # of the depth: a surface so far behind a voxel says that nothing is there
AXIS_BITS = 21  # of a key: two million voxels along each axis
HALF_AXIS = 1 << (AXIS_BITS - 1)

KEY, HITS, SUMS = np.int64, np.float32, np.float32


@dataclass(frozen=True, eq=False)
class Voxels:
    """What a map holds.

    Attributes:
        points: `(M, 3)` float32, the mean of what was seen in each voxel, in the world.
        colors: `(M, 3)` uint8.
        confidence: `(M,)` float32 mean; 1 where the views have none.
        hits: `(M,)` how many views saw it, less those that saw through it, at most `MOST_HITS`.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    hits: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


class VoxelMap:
    """Voxels of one size in a world that does not move, at most so many.

    A voxel that a view shows counts one more, one that it sees through one less, and is gone at zero: what moves leaves
    no trail. Where there are too many voxels, those with the fewest hits go, the oldest first.

    Args:
        voxel_m: length of an edge.
        max_voxels: the memory is about 60 bytes each.
    """

    def __init__(self, voxel_m: float, max_voxels: int) -> None:
        self._voxel_m, self._max_voxels = voxel_m, max_voxels
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._keys = np.zeros(0, KEY)  # ascending
        self._hits, self._newest = np.zeros(0, HITS), np.zeros(0, np.int64)
        self._weight = np.zeros(0, SUMS)  # pixels
        self._sums = np.zeros((0, 7), SUMS)  # of x y z, red green blue, confidence

    def __len__(self) -> int:
        return len(self._keys)

    def add(
        self,
        depth: np.ndarray,
        chosen: np.ndarray,
        colors: np.ndarray,
        confidence: np.ndarray | None,
        intrinsics: np.ndarray,
        world_to_camera: np.ndarray,
        number: int,
    ) -> None:
        """Take in a view.

        Args:
            depth: `(H, W)` z-depth; NaN is unknown, +Inf sees through everything.
            chosen: `(H, W)` bool, pixels that become points; depth of the others sees through things too.
            colors: `(H, W, 3)` uint8.
            confidence: `(H, W)`, or None.
            intrinsics: `(3, 3)`, pixel edges at integers.
            world_to_camera: `(4, 4)`.
            number: of the view, ascending.
        """
        self._fade(depth, intrinsics, world_to_camera)
        rows, columns = np.nonzero(chosen & np.isfinite(depth))
        z = depth[rows, columns]
        rays = np.linalg.inv(intrinsics) @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(z))])  # (3, P)
        camera_to_world = invert_rigid(world_to_camera)
        points = (camera_to_world[:3, :3] @ (rays * z)).T + camera_to_world[:3, 3]  # (P, 3)
        values = np.ones((len(z), 7), SUMS)
        values[:, :3], values[:, 3:6] = points, colors[rows, columns]
        if confidence is not None:
            values[:, 6] = confidence[rows, columns]
        keys, inverse, counts = np.unique(self._keys_of(points), return_inverse=True, return_counts=True)
        sums = np.stack([np.bincount(inverse, column, len(keys)) for column in values.T], -1).astype(SUMS)
        self._merge(keys, np.ones(len(keys), HITS), np.full(len(keys), number), counts.astype(SUMS), sums)
        self._shrink()

    def bend(self, move: Callable[[int, np.ndarray], tuple[np.ndarray, float]]) -> None:
        """Move every voxel as the view did that saw it last: `move` of its number and a pose `(4, 4)` in the world is
        where that is now, and how many times as large everything there is."""
        points = self._sums[:, :3] / self._weight[:, None]
        for number in np.unique(self._newest).tolist():
            there = self._newest == number
            moved, larger = move(number, np.eye(4))
            points[there] = larger * points[there] @ moved[:3, :3].T.astype(SUMS) + moved[:3, 3].astype(SUMS)
        sums = self._sums.copy()
        sums[:, :3] = points * self._weight[:, None]
        keys, order = np.unique(self._keys_of(points), return_inverse=True)
        hits, newest, weight = self._hits, self._newest, self._weight
        self.clear()
        self._keys = keys
        self._hits, self._newest = np.zeros(len(keys), HITS), np.zeros(len(keys), np.int64)
        np.maximum.at(self._hits, order, hits)
        np.maximum.at(self._newest, order, newest)
        self._weight = np.bincount(order, weight, len(keys)).astype(SUMS)
        self._sums = np.stack([np.bincount(order, column, len(keys)) for column in sums.T], -1).astype(SUMS)

    def voxels(self) -> Voxels:
        """What there is."""
        means = self._sums / self._weight[:, None]
        colors = np.rint(means[:, 3:6]).astype(np.uint8)
        return Voxels(means[:, :3], colors, means[:, 6], self._hits.copy())

    def _keys_of(self, points: np.ndarray) -> np.ndarray:
        """`(P,)` of `(P, 3)`; points outside the range of keys lie at its rim."""
        cells = np.clip(np.floor(points / self._voxel_m), -HALF_AXIS, HALF_AXIS - 1).astype(KEY) + HALF_AXIS
        return np.asarray((cells[:, 0] << 2 * AXIS_BITS) | (cells[:, 1] << AXIS_BITS) | cells[:, 2])

    def _merge(
        self, keys: np.ndarray, hits: np.ndarray, newest: np.ndarray, weight: np.ndarray, sums: np.ndarray
    ) -> None:
        place = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == keys[inside]
        at = place[known]
        self._hits[at] = np.minimum(self._hits[at] + hits[known], MOST_HITS)
        self._newest[at] = newest[known]
        self._weight[at] += weight[known]
        self._sums[at] += sums[known]
        at, new = place[~known], ~known
        self._keys = np.insert(self._keys, at, keys[new])
        self._hits = np.insert(self._hits, at, hits[new])
        self._newest = np.insert(self._newest, at, newest[new])
        self._weight = np.insert(self._weight, at, weight[new])
        self._sums = np.insert(self._sums, at, sums[new], axis=0)

    def _fade(self, depth: np.ndarray, intrinsics: np.ndarray, world_to_camera: np.ndarray) -> None:
        """Take one hit from every voxel that the view sees through; one that is only nearly hidden is left alone."""
        if not len(self):
            return
        points = self._sums[:, :3] / self._weight[:, None]
        rotation, offset = world_to_camera[:3, :3].astype(SUMS), world_to_camera[:3, 3].astype(SUMS)
        u, v, z = np.asarray(intrinsics, SUMS) @ (rotation @ points.T + offset[:, None])  # (M,) each
        height, width = depth.shape
        in_front = z > self._voxel_m
        safe = np.where(in_front, z, 1)
        column, row = np.floor(u / safe), np.floor(v / safe)
        seen = np.flatnonzero(in_front & (column >= 0) & (column < width) & (row >= 0) & (row < height))
        behind = depth[row[seen].astype(np.int64), column[seen].astype(np.int64)]  # NaN fails the comparison
        through = behind > z[seen] * (1 + SEEN_THROUGH) + 2 * self._voxel_m
        self._hits[seen[through]] -= 1
        self._keep(self._hits > 0)

    def _shrink(self) -> None:
        if len(self) > self._max_voxels:
            worth = np.lexsort((self._newest, self._hits))  # the least first
            kept = np.ones(len(self), bool)
            kept[worth[: len(self) - self._max_voxels]] = False
            self._keep(kept)

    def _keep(self, kept: np.ndarray) -> None:
        if not kept.all():
            self._keys, self._hits, self._newest = self._keys[kept], self._hits[kept], self._newest[kept]
            self._weight, self._sums = self._weight[kept], self._sums[kept]
