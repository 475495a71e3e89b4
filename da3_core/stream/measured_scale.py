# SPDX-License-Identifier: Apache-2.0
"""Metres that a window is measured to have: by depth known at some of its pixels, or by the ground under the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame

FEWEST_POINTS = 10  # of a window, or they say nothing
GROUND_POINTS = 3000  # looked at in each view
TRIALS = 200
ON_GROUND = 0.02  # of the depth of a point: so near to the plane is on it
REFITS, NEAR = 5, 2.5  # of the plane; times the median distance of the points that it is fitted to
GROUND_SHARE = 0.15  # of the points, at least, are on it
BELOW_SHARE = 0.05  # of the points, at most, are below it
TILT = np.cos(np.radians(45))  # the camera is taken to be more upright than that
TILT_OF_GRAVITY = np.cos(np.radians(10))  # of the ground, where gravity is known


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane that the camera is above.

    Attributes:
        up: `(3,)` its normal, in the camera's optical axes.
        height: of the camera, in the unit of depth.
    """

    up: np.ndarray
    height: float


def by_reference_depth(frames: Sequence[Frame], prediction: Prediction) -> float | None:
    """Metres per unit of a prediction; None where too little is known. Nearly half of the points may be wrong, such as
    those that are hidden from the camera."""
    if prediction.processed_from_original is None:
        return None
    ratios = [
        _ratios(frame.reference_depth, prediction.depth[i], prediction.processed_from_original[i])
        for i, frame in enumerate(frames)
        if frame.reference_depth is not None
    ]
    logs = np.log(np.concatenate(ratios)) if ratios else np.empty(0)
    return float(np.exp(np.median(logs))) if len(logs) >= FEWEST_POINTS else None


def by_height(frames: Sequence[Frame], prediction: Prediction, height_m: float) -> float | None:
    """Metres per unit of a prediction by the height of the cameras; None where no ground is seen."""
    heights = [ground.height for i in range(len(frames)) if (ground := ground_of(frames[i], prediction, i))]
    return height_m / float(np.median(heights)) if heights else None


def in_metres(prediction: Prediction, metres_per_unit: float | None) -> Prediction:
    """The prediction in metres, as if the model had said them; None takes from it that it did."""
    if metres_per_unit is None:
        return replace(prediction, is_metric=0)
    extrinsics = prediction.extrinsics
    if extrinsics is not None:
        extrinsics = extrinsics.copy()
        extrinsics[:, :3, 3] *= metres_per_unit
    depth = prediction.depth * np.float32(metres_per_unit)
    return replace(prediction, depth=depth, extrinsics=extrinsics, is_metric=1)


def ground_of(frame: Frame, prediction: Prediction, index: int) -> Ground | None:
    """The ground that a view shows: the largest plane with hardly anything below, and the camera above."""
    intrinsics = None if prediction.intrinsics is None else np.asarray(prediction.intrinsics[index], np.float64)
    if frame.intrinsics is not None and prediction.processed_from_original is not None:
        intrinsics = prediction.processed_from_original[index] @ frame.intrinsics
    if intrinsics is None:
        return None
    sky = None if prediction.sky is None else prediction.sky[index]
    points = _points(prediction.depth[index], intrinsics, sky)
    up, most_tilted = (np.array([0.0, -1.0, 0.0]), TILT) if frame.up is None else (frame.up, TILT_OF_GRAVITY)
    return _largest_plane(points, up, float(most_tilted))


def _ratios(reference: np.ndarray, depth: np.ndarray, processed_from_original: np.ndarray) -> np.ndarray:
    """Metres per unit of depth at the pixels of `(M, 3)` reference depth."""
    pixels = reference[:, :2] @ processed_from_original[:2, :2].T + processed_from_original[:2, 2]
    inside = ((pixels >= 0) & (pixels < np.array(depth.shape[::-1]))).all(axis=1)
    x, y = pixels[inside].astype(int).T
    ratios = reference[inside, 2] / depth[y, x].astype(np.float64)
    return np.asarray(ratios[np.isfinite(ratios) & (ratios > 0)])


def _points(depth: np.ndarray, intrinsics: np.ndarray, sky: np.ndarray | None) -> np.ndarray:
    """`(P, 3)` of pixels spread over the image, in the camera's axes."""
    stride = max(1, int(np.sqrt(depth.size / GROUND_POINTS)))
    y, x = (each.ravel() for each in np.mgrid[0 : depth.shape[0] : stride, 0 : depth.shape[1] : stride])
    z = depth[y, x].astype(np.float64)
    seen = np.isfinite(z) & (z > 0)
    if sky is not None:
        seen &= ~sky[y, x]
    pixels = np.column_stack([x[seen] + 0.5, y[seen] + 0.5])
    rays = (pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    return np.column_stack([rays * z[seen, None], z[seen]])


def _largest_plane(points: np.ndarray, up: np.ndarray, least_cosine: float) -> Ground | None:
    if len(points) < FEWEST_POINTS:
        return None
    triples = np.random.default_rng(0).integers(len(points), size=(TRIALS, 3))
    first, second, third = points[triples].transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)  # (T, 3)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    normals *= np.where(normals @ up < 0, -1, 1)[:, None]
    heights = -(normals * first).sum(1)
    above = normals @ points.T + heights[:, None]  # (T, P) of every point above every plane
    on_plane, below = np.abs(above) < ON_GROUND * points[:, 2], above < -2 * ON_GROUND * points[:, 2]
    allowed = (normals @ up > least_cosine) & (heights > 0) & (below.mean(1) < BELOW_SHARE)
    shares = np.where(allowed, on_plane.mean(1), 0)
    best = int(shares.argmax())
    if shares[best] < GROUND_SHARE:
        return None
    return _fitted(points, normals[best], float(heights[best]), up)


def _fitted(points: np.ndarray, normal: np.ndarray, height: float, up: np.ndarray) -> Ground | None:
    """A plane through the points that are near to it, ever closer: the feet of walls and of things are near as well."""
    tolerance = ON_GROUND
    for _ in range(REFITS):
        off = np.abs(points @ normal + height) / points[:, 2]
        near = off < tolerance
        if near.sum() < FEWEST_POINTS:
            break
        chosen = points[near]
        centre = chosen.mean(0)
        normal = np.linalg.svd(chosen - centre, full_matrices=False)[2][2]
        normal = normal if normal @ up > 0 else -normal
        height = -float(normal @ centre)
        tolerance = min(ON_GROUND, NEAR * float(np.median(off[near])))
    return Ground(normal, height) if height > 0 else None
