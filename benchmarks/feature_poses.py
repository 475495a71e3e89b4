# SPDX-License-Identifier: Apache-2.0
"""How right cameras from matching features are with soft depth, and how well the deviations hold that they state.

Pairs of views of the synthetic walk, one to three frames apart. Depth is true, or soft as that of a small network:
wrong in patches and tilted, in each view by itself or alike in both, each view in a unit of its own. Depth has
168 x 224 pixels; features are sought in images of that size, and in the images as given, 480 x 640.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from report import arguments, publish
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.feature_poses import FeaturePoses, poses_from_features
from da3_core.synthetic import Walk, room_walk

Softness = Literal["true", "soft", "soft alike"]

SIZE = (168, 224)
SOFTNESS, SOFTNESS_ALIKE = 0.15, 0.05  # relative standard deviations: of the patches, and of what is not alike
PATCHES = (4, 5)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Errors `(P,)` of the second camera of the pairs that could be placed, of `tried`, and the stated deviation."""

    rotation_deg: np.ndarray
    direction_deg: np.ndarray
    stated_deg: np.ndarray
    tried: int

    @property
    def within(self) -> float:
        """The share of rotations that are as right as stated."""
        return float((self.rotation_deg <= self.stated_deg).mean())

    @property
    def area(self) -> float:
        """Under the curve of the share of pairs whose errors are below a limit, up to 5 degrees (AUC@5)."""
        worse = np.maximum(self.rotation_deg, self.direction_deg)
        return float(np.clip(1 - worse / 5, 0, 1).sum() / self.tried)


def soft_depth(depth: np.ndarray, softness: Softness, seed: int) -> np.ndarray:
    """`(N, H, W)` depth of views as a small network predicts it."""
    if softness == "true":
        return depth
    random, (views, height, width) = np.random.default_rng(seed), depth.shape

    def patches(deviation: float) -> np.ndarray:
        return cv2.resize(random.normal(0, deviation, PATCHES), (width, height), interpolation=cv2.INTER_CUBIC)

    tilt = np.linspace(-1.5, 1.5, height)[:, None] * random.normal(0, SOFTNESS)
    common = patches(SOFTNESS) + tilt
    own = [patches(SOFTNESS) if softness == "soft" else common + patches(SOFTNESS_ALIKE) for _ in range(views)]
    units = random.normal(0, 0.5, (views, 1, 1))
    return np.asarray(depth * np.exp(own) * np.exp(units), np.float32)


def place(
    walk: Walk, frames: Sequence[int], softness: Softness, seed: int, *, full: bool = True, size: tuple[int, int] = SIZE
) -> FeaturePoses:
    """Frames of a walk with depth of a `size`, matched in the full images or in those of that size."""
    height, width = size
    depth, small = (
        np.stack([cv2.resize(given[frame], (width, height), interpolation=how) for frame in frames])
        for given, how in ((walk.depth_m, cv2.INTER_NEAREST_EXACT), (walk.images, cv2.INTER_AREA))
    )
    depth = soft_depth(depth, softness, seed)
    depth_from_image = np.diag([width / walk.size[1], height / walk.size[0], 1])
    intrinsics = np.tile(depth_from_image @ walk.intrinsics, (len(frames), 1, 1))
    if not full:
        return poses_from_features(small, depth, intrinsics)
    transforms = np.tile(depth_from_image, (len(frames), 1, 1))
    return poses_from_features(walk.images[list(frames)], depth, intrinsics, transforms)


def compare(
    walk: Walk,
    pairs: Sequence[tuple[int, int]],
    softness: Softness,
    seed: int,
    *,
    full: bool = True,
    size: tuple[int, int] = SIZE,
) -> Pairs:
    """The second cameras of pairs against the true ones."""
    rows = []
    for number, pair in enumerate(pairs):
        found = place(walk, pair, softness, seed + number, full=full, size=size)
        if found.world_to_camera is None:
            continue
        first, second = invert_rigid(walk.camera_to_world[list(pair)])
        estimate, truth = found.world_to_camera[1], second @ invert_rigid(first)
        off = Rotation.from_matrix(estimate[:3, :3].T @ truth[:3, :3]).magnitude()
        u, v = (moved[:3, 3] / np.linalg.norm(moved[:3, 3]) for moved in (estimate, truth))
        rows.append((np.rad2deg(off), np.rad2deg(np.arccos(np.clip(u @ v, -1, 1))), found.rotation_deviation_deg))
    return Pairs(*np.array(rows).reshape(-1, 3).T, tried=len(pairs))


def main() -> None:
    given = arguments(__doc__, repeats=1)
    walk = room_walk(frames=24, size=(480, 640), seed=5)
    pairs = [(i, i + apart) for apart in (1, 2, 3) for i in range(len(walk) - apart)]
    rows = []
    for full in (False, True):
        for softness in get_args(Softness):
            measured = [compare(walk, pairs, softness, 1000 * seed, full=full) for seed in range(given.repeats)]
            row = {
                "depth": softness,
                "images": "as given" if full else "small",
                "placed": float(np.mean([len(each.stated_deg) / each.tried for each in measured])),
                "auc_5": float(np.mean([each.area for each in measured])),
                "rotation_deg": float(np.median(np.concatenate([each.rotation_deg for each in measured]))),
                "direction_deg": float(np.median(np.concatenate([each.direction_deg for each in measured]))),
                "within_stated": float(np.mean([each.within for each in measured])),
            }
            print(row, flush=True)
            rows.append(row)
    publish("feature_poses", given.out, rows=rows)


if __name__ == "__main__":
    main()
