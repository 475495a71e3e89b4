# SPDX-License-Identifier: Apache-2.0
"""Similarity transforms (scale, rotation, translation) and their estimation from points or from camera trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion

ROBUST_FROM_VIEWS = 10  # fewer views leave no majority to tell outliers by
COLLINEAR_RATIO = 1e-2  # a path this narrow against its length does not fix the rotation about itself


class DegenerateError(ValueError):
    """Points that coincide or lie on one line, to which no unique similarity can be fitted."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """`x -> scale * rotation @ x + translation`, float64; `target_from_source = fit_similarity(source, target)`."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    @classmethod
    def identity(cls) -> Similarity:
        return cls(1.0, np.eye(3), np.zeros(3))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """`(..., 3)` points of the source frame to the target frame."""
        return np.asarray(self.scale * (np.asarray(points, np.float64) @ self.rotation.T) + self.translation)

    def __matmul__(self, first: Similarity) -> Similarity:
        """`(a @ b).apply(x) == a.apply(b.apply(x))`."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))

    def inverse(self) -> Similarity:
        rotation = self.rotation.T
        return Similarity(1 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def exact(self) -> Similarity:
        """With the nearest rotation. What is composed and inverted again and again else ceases to be one."""
        return Similarity(
            self.scale, rotation_from_quaternion(quaternion_from_rotation(self.rotation)), self.translation
        )

    def transform_camera(self, camera_to_world: np.ndarray) -> np.ndarray:
        """Cameras `(..., 4, 4)` camera-to-source, moved as bodies: `(..., 4, 4)` float64 rigid camera-to-target.

        Depth seen by such a camera is `scale` times as large.
        """
        moved = np.array(camera_to_world, np.float64)
        moved[..., :3, 3] = self.apply(moved[..., :3, 3])
        moved[..., :3, :3] = self.rotation @ moved[..., :3, :3]
        return moved


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Similarity:
    """The similarity that takes `source` `(K, 3)` to `target` `(K, 3)` with the least weighted square error.

    S. Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, PAMI 1991.

    Raises:
        DegenerateError: the points of either side lie on one line or in one place.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if len(source) == 0 or weights.sum() <= 0:
        raise DegenerateError("no points with positive weight")
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    x, y = source - source_mean, target - target_mean

    left, singular, right = np.linalg.svd((y * weights[:, None]).T @ x)
    if singular[1] <= 1e-12 * singular[0] or singular[0] <= np.finfo(np.float64).tiny:
        raise DegenerateError("the points lie on one line or in one place")
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum() / (weights @ (x**2).sum(1)))
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def fit_similarity_robust(source: np.ndarray, target: np.ndarray) -> tuple[Similarity, np.ndarray]:
    """`fit_similarity` on the points that agree, and the `(K,)` bool mask of those points. Deterministic.

    RANSAC: subsets of half the points and of three points are drawn, the fit with most points closer than a threshold
    wins, then it is refitted to its own inliers until they stay the same. The threshold is the median distance from a
    moved source point to the nearest target point after a fit to all points, and shrinks with the median error.
    """
    target_from_source = fit_similarity(source, target)
    moved = target_from_source.apply(source)
    rounding = 1e-9 * float(np.ptp(target, axis=0).max())
    threshold = max(float(np.median([np.linalg.norm(target - point, axis=1).min() for point in moved])), rounding)
    count = len(source)
    half = max(3, (count + 1) // 2)

    random = np.random.default_rng(42)
    best, best_inliers, best_score = target_from_source, np.ones(count, bool), (0, 0.0)
    for size in [half] * 10 + [3] * 100:
        subset = random.choice(np.arange(count), size=size, replace=False)
        try:
            candidate = fit_similarity(source[subset], target[subset])
        except DegenerateError:
            continue
        error = np.linalg.norm(candidate.apply(source) - target, axis=1)
        inliers = error <= threshold
        score = (int(inliers.sum()), -float(error[inliers].mean()) if inliers.any() else 0.0)
        if score > best_score:
            best, best_inliers, best_score = candidate, inliers, score

    for _ in range(10):
        if best_inliers.sum() < 3:
            break
        best = fit_similarity(source[best_inliers], target[best_inliers])
        error = np.linalg.norm(best.apply(source) - target, axis=1)
        inliers = error <= max(min(threshold, 3 * 1.4826 * float(np.median(error))), rounding)
        if (inliers == best_inliers).all() or inliers.sum() < 3:
            break
        best_inliers = inliers
    return best, best_inliers


@dataclass(frozen=True, eq=False)
class TrajectoryAlignment:
    """How one camera trajectory was laid over another.

    Attributes:
        target_from_source: the similarity.
        residual: root mean square distance of the camera centres used, in units of the source trajectory.
        method: `similarity` (fewer than 10 views), `robust` (10 and more), `scale_only` (camera centres on one line:
            scale from distances, rotation from the cameras' own), `rotation_only` (one view or no baseline: scale 1).
        inliers: `(N,)` bool, the views used.
    """

    target_from_source: Similarity
    residual: float
    method: Literal["similarity", "robust", "scale_only", "rotation_only"]
    inliers: np.ndarray

    @property
    def scale(self) -> float:
        """Target units per source unit."""
        return self.target_from_source.scale


def align_trajectories(source: np.ndarray, target: np.ndarray, precision: float = 1e-12) -> TrajectoryAlignment:
    """Lays `source` over `target`, both `(N, 4, 4)` camera-to-world of the same N >= 1 views, also where
    their centres coincide or lie on one line.

    Args:
        precision: relative rounding of the numbers in `source`: centres closer than that are in one place.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    x, y = source[:, :3, 3], target[:, :3, 3]
    inliers = np.ones(len(x), bool)
    method: Literal["similarity", "robust", "scale_only", "rotation_only"]
    try:
        if _is_narrow(x) or _is_narrow(y):
            raise DegenerateError("camera centres on one line")
        if len(x) >= ROBUST_FROM_VIEWS:
            method = "robust"
            target_from_source, inliers = fit_similarity_robust(x, y)
        else:
            method = "similarity"
            target_from_source = fit_similarity(x, y)
    except DegenerateError:
        scale = _distance_ratio(x, y, precision)
        method = "scale_only" if scale else "rotation_only"
        rotation = mean_rotation(target[:, :3, :3] @ np.swapaxes(source[:, :3, :3], 1, 2))
        translation = y.mean(0) - (scale or 1.0) * rotation @ x.mean(0)
        target_from_source = Similarity(scale or 1.0, rotation, translation)
    error = np.linalg.norm(target_from_source.apply(x) - y, axis=1)[inliers] / target_from_source.scale
    return TrajectoryAlignment(target_from_source, float(np.sqrt((error**2).mean())), method, inliers)


def _is_narrow(points: np.ndarray) -> bool:
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return len(points) < 3 or bool(spread[1] <= COLLINEAR_RATIO * spread[0])


def _distance_ratio(source: np.ndarray, target: np.ndarray, precision: float) -> float | None:
    """Median over all pairs of target distance / source distance, or None where one side has no baseline."""
    first, second = np.triu_indices(len(source), 1)
    source_distances = np.linalg.norm(source[first] - source[second], axis=1)
    target_distances = np.linalg.norm(target[first] - target[second], axis=1)
    apart = source_distances > max(8 * precision * np.abs(source).max(), 1e-3 * source_distances.max(initial=0))
    if not apart.any():
        return None
    ratio = float(np.median(target_distances[apart] / source_distances[apart]))
    return ratio if ratio > 0 else None


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """The rotation closest to `(N, 3, 3)` rotations in the chordal (Frobenius) sense."""
    left, _, right = np.linalg.svd(rotations.sum(0))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    return np.asarray((left * signs) @ right)


def central_rotation(rotations: np.ndarray) -> np.ndarray:
    """The one of `(N, 3, 3)` rotations that differs least from all others; a gross one among three moves it not far."""
    differences = np.linalg.norm(rotations[:, None] - rotations[None], axis=(2, 3)).sum(1)
    return np.asarray(rotations[int(differences.argmin())])
