# SPDX-License-Identifier: Apache-2.0
"""An estimate beside the truth: put into the same frame and unit, and measured."""

from dataclasses import dataclass, replace

import numpy as np

from da3_core.geometry.backprojection import backproject
from da3_core.geometry.camera import invert_rigid
from da3_core.geometry.similarity import align_trajectories

POINTS_PER_FRAME = 20_000


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames with depth and cameras.

    Attributes:
        colour: `(N, H, W, 3)` uint8.
        depth: `(N, H, W)` float32 z-depth; NaN where unknown.
        intrinsics: `(N, 3, 3)`, pixels of `depth`, pixel edges at integers.
        camera_to_world: `(N, 4, 4)` float64, OpenCV camera axes, world z up.
    """

    colour: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    camera_to_world: np.ndarray

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The cloud of all frames, thinned: `(P, 3)` float32 in the world and `(P, 3)` uint8 colours."""
        world_to_camera = invert_rigid(self.camera_to_world)
        points = backproject(self.depth, self.intrinsics, world_to_camera)
        share = POINTS_PER_FRAME / self.depth[0].size
        drawn = np.isfinite(self.depth) & (np.random.default_rng(0).random(self.depth.shape) < share)
        return points[drawn], self.colour[drawn]

    def view_corners(self, i: int, reach_m: float) -> np.ndarray:
        """`(2, 3)`: the left and right edges of view `i` at image height of the optical axis, `reach_m` ahead."""
        width = self.depth.shape[2]
        k = self.intrinsics[i]
        x = (np.array([0.0, width]) - k[0, 2]) / k[0, 0]
        corners = np.stack([x, np.zeros(2), np.ones(2)], axis=1) * reach_m
        pose = self.camera_to_world[i]
        return corners @ pose[:3, :3].T + pose[:3, 3]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Truth and estimate of the same frames, the estimate in the truth's frame and metres.

    The estimate is placed by its first camera and scaled by the median ratio of depths (`scale_m_per_unit`), so drift
    shows. The trajectory error is the usual one: RMSE of the camera centres after the best similarity.
    """

    truth: Scene
    estimate: Scene
    confidence: np.ndarray
    seconds: np.ndarray
    scale_m_per_unit: float

    @classmethod
    def of(cls, truth: Scene, estimate: Scene, confidence: np.ndarray, seconds: np.ndarray) -> "Comparison":
        """Compare frames of the same size; `estimate` is in its own map and unit."""
        known = np.isfinite(estimate.depth) & (estimate.depth > 0) & (truth.depth > 0)
        scale = float(np.median(truth.depth[known] / estimate.depth[known])) if known.any() else 1.0
        camera_to_map = estimate.camera_to_world.copy()
        camera_to_map[:, :3, 3] *= scale
        map_to_world = truth.camera_to_world[0] @ invert_rigid(camera_to_map[0])
        placed = replace(
            estimate, depth=estimate.depth * np.float32(scale), camera_to_world=map_to_world @ camera_to_map
        )
        return cls(truth, placed, confidence, seconds, scale)

    @property
    def depth_error(self) -> float:
        """Median of |estimate - truth| / truth over the pixels."""
        error = np.abs(self.estimate.depth - self.truth.depth) / self.truth.depth
        return float(np.nanmedian(error))

    @property
    def trajectory_error_m(self) -> float:
        """RMSE of camera centres after the similarity that lays the estimated path over the true one."""
        estimate, truth = self.estimate.camera_to_world, self.truth.camera_to_world
        truth_from_estimate = align_trajectories(estimate, truth).target_from_source
        residual = truth_from_estimate.apply(estimate[:, :3, 3]) - truth[:, :3, 3]
        return float(np.sqrt((residual**2).sum(axis=1).mean()))

    @property
    def path_length_m(self) -> float:
        """Length of the true path through the frames."""
        return float(np.linalg.norm(np.diff(self.truth.camera_to_world[:, :3, 3], axis=0), axis=1).sum())
