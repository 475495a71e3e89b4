# SPDX-License-Identifier: Apache-2.0
"""An estimate beside the truth, where that is known: put into the same frame and unit, and measured."""

from dataclasses import dataclass, field, replace

import numpy as np

from da3_core.geometry.backprojection import backproject
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import align_trajectories

POINTS_PER_FRAME = 20_000


@dataclass(frozen=True, eq=False)
class PosedFrames:
    """Frames with depth and cameras.

    Attributes:
        colour: `(N, H, W, 3)` uint8.
        depth: `(N, H, W)` float32 z-depth; NaN where unknown.
        intrinsics: `(N, 3, 3)`, pixels of `depth`, pixel edges at integers.
        camera_to_world: `(N, 4, 4)` float64, OpenCV camera axes, world z up; NaN for a frame without a place.
    """

    colour: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    camera_to_world: np.ndarray

    @property
    def placed(self) -> np.ndarray:
        """`(N,)` bool: which frames have a place in the world."""
        placed: np.ndarray = np.isfinite(self.camera_to_world).all(axis=(1, 2))
        return placed

    def dense_points(self) -> np.ndarray:
        """`(N, H, W, 3)` float32 in the world, NaN where depth or place is unknown."""
        return backproject(self.depth, self.intrinsics, invert_rigid(self.camera_to_world))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The cloud of the placed frames, thinned: `(P, 3)` float32 in the world and `(P, 3)` uint8 colours."""
        share = POINTS_PER_FRAME / self.depth[0].size
        drawn = np.isfinite(self.depth) & (np.random.default_rng(0).random(self.depth.shape) < share)
        drawn &= self.placed[:, None, None]
        return self.dense_points()[drawn], self.colour[drawn]

    def view_corners(self, i: int, reach: float) -> np.ndarray:
        """`(2, 3)`: the left and right edges of view `i` at image height of the optical axis, `reach` ahead."""
        width = self.depth.shape[2]
        k = self.intrinsics[i]
        x = (np.array([0.0, width]) - k[0, 2]) / k[0, 0]
        in_camera = np.stack([x, np.zeros(2), np.ones(2)], axis=1) * reach
        pose = self.camera_to_world[i]
        in_world: np.ndarray = in_camera @ pose[:3, :3].T + pose[:3, 3]
        return in_world


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known about some frames.

    Attributes:
        estimate: in its own map and unit, or in those of the truth.
        confidence: `(N, H, W)` float32.
        seconds: `(N,)` stamps.
        truth: the same frames, or None.
    """

    estimate: PosedFrames
    confidence: np.ndarray
    seconds: np.ndarray
    truth: PosedFrames | None = None

    @property
    def unit(self) -> str:
        """Of depth and positions."""
        return "unit" if self.truth is None else "m"


@dataclass(frozen=True, eq=False)
class Comparison(Findings):
    """Findings with truth, the estimate in the truth's frame and metres.

    The estimate is placed by its first camera and scaled by the median ratio of depths (`scale_m_per_unit`), so drift
    shows; a frame without a place has a scale of its own. The trajectory error is the usual one: RMSE of the camera
    centres after the best similarity.
    """

    truth: PosedFrames = field()  # there is always one here
    scale_m_per_unit: float = 1.0

    @classmethod
    def of(cls, truth: PosedFrames, estimate: PosedFrames, confidence: np.ndarray, seconds: np.ndarray) -> "Comparison":
        """Compare frames of the same size; `estimate` is in its own map and unit."""
        placed = estimate.placed
        scales = np.array([_median_ratio(truth.depth[i], estimate.depth[i]) for i in range(len(placed))])
        scale = _median_ratio(truth.depth[placed], estimate.depth[placed])
        scales[placed] = scale
        camera_to_world = estimate.camera_to_world.copy()
        if placed.any():
            camera_to_world[:, :3, 3] *= scale
            first = int(placed.argmax())
            map_to_world = truth.camera_to_world[first] @ invert_rigid(camera_to_world[first])
            camera_to_world[placed] = map_to_world @ camera_to_world[placed]
        depth = estimate.depth * scales[:, None, None].astype(np.float32)
        in_world = replace(estimate, depth=depth, camera_to_world=camera_to_world)
        return cls(in_world, confidence, seconds, truth, scale)

    @property
    def depth_error(self) -> float:
        """Median of |estimate - truth| / truth over the pixels."""
        error = np.abs(self.estimate.depth - self.truth.depth) / self.truth.depth
        return float(np.nanmedian(error))

    @property
    def cloud_error_m(self) -> float:
        """Median distance between where the estimate and the truth put what a pixel shows; NaN without places."""
        distance = np.linalg.norm(self.estimate.dense_points() - self.truth.dense_points(), axis=-1)
        return float(np.nanmedian(distance)) if np.isfinite(distance).any() else float("nan")

    @property
    def trajectory_error_m(self) -> float:
        """RMSE of camera centres after the similarity that lays the estimated path over the true one; NaN without."""
        placed = self.estimate.placed
        if placed.sum() < 2:
            return float("nan")
        estimate, truth = self.estimate.camera_to_world[placed], self.truth.camera_to_world[placed]
        truth_from_estimate = align_trajectories(estimate, truth).target_from_source
        residual = truth_from_estimate.apply(estimate[:, :3, 3]) - truth[:, :3, 3]
        return float(np.sqrt((residual**2).sum(axis=1).mean()))

    @property
    def path_length_m(self) -> float:
        """Length of the true path through the frames."""
        return float(np.linalg.norm(np.diff(self.truth.camera_to_world[:, :3, 3], axis=0), axis=1).sum())


def _median_ratio(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Of true to estimated depth where both are known; 1 where nothing is."""
    known = np.isfinite(estimate) & (estimate > 0) & (truth > 0)
    return float(np.median(truth[known] / estimate[known])) if known.any() else 1.0
