# SPDX-License-Identifier: Apache-2.0
"""The scale of single views against that of their window.

A network errs in the scale of each view's depth by itself, which a stream shows as flicker. But the views of a window
see the same surfaces from known places: what the others have there tells how much too large one has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction

SAMPLES = 300  # pixels of each view
SAME_SURFACE = 0.4  # of the logarithm of depth: beyond it a pixel shows another surface
FEWEST_SEEN = 0.25  # of the pixels of a view that another one must have too


def steadied(prediction: Prediction, chosen: Sequence[int]) -> Prediction:
    """With the depth of the `chosen` views at the scale that all views of the window have on average.

    The cameras are one of the two things that depth must fit; where they are unknown, or no other view sees the same,
    depth stays.
    """
    depth = prediction.depth
    if prediction.extrinsics is None or prediction.usable_intrinsics is None or len(depth) < 2:
        return prediction
    views = np.flatnonzero(prediction.placed)
    points = _points(prediction, views)  # (V, P, 3)
    scales = {i: _log_scale(prediction, i, points[views != i]) for i in chosen if i in views}
    scales = {i: log_scale for i, log_scale in scales.items() if log_scale != 0}
    if not scales:
        return prediction
    depth = depth.copy()
    for i, log_scale in scales.items():
        depth[i] *= np.float32(np.exp(-log_scale))
    return replace(prediction, depth=depth)


def _points(prediction: Prediction, views: np.ndarray) -> np.ndarray:
    """`(V, P, 3)` points of a grid of pixels of each view in the window's world; NaN where there is none."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    height, width = prediction.depth.shape[1:]
    step = max(1, int(np.ceil(np.sqrt(height * width / SAMPLES))))
    grid = slice(step // 2, height, step), slice(step // 2, width, step)
    rows, columns = np.mgrid[grid]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], -1).reshape(-1, 3)  # (P, 3)
    depth = prediction.depth[(views[:, None, None], rows, columns)].reshape(len(views), -1).astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if prediction.sky is not None:
        known &= ~prediction.sky[(views[:, None, None], rows, columns)].reshape(depth.shape)
    rays = pixels @ np.linalg.inv(prediction.usable_intrinsics[views].astype(np.float64)).transpose(0, 2, 1)
    cameras = invert_rigid(prediction.extrinsics[views].astype(np.float64))
    points = (rays * np.where(known, depth, np.nan)[:, :, None]) @ cameras[:, :3, :3].transpose(0, 2, 1)
    return np.asarray(points + cameras[:, None, :3, 3])


def _log_scale(prediction: Prediction, view: int, points: np.ndarray) -> float:
    """Of the depth of a view over the mean of all views, by the points `(V - 1, P, 3)` of the others."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    camera, depth = prediction.extrinsics[view].astype(np.float64), prediction.depth[view]
    seen = points @ camera[:3, :3].T + camera[:3, 3]  # (V - 1, P, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        projected = seen @ prediction.usable_intrinsics[view].astype(np.float64).T
        column, row = np.floor(projected[..., 0] / seen[..., 2]), np.floor(projected[..., 1] / seen[..., 2])
        inside = (seen[..., 2] > 0) & (column >= 0) & (column < depth.shape[1]) & (row >= 0) & (row < depth.shape[0])
        there = depth[np.where(inside, row, 0).astype(int), np.where(inside, column, 0).astype(int)]
        ratio = np.log(there / seen[..., 2])
    ratio = np.where(inside & (np.abs(ratio) < SAME_SURFACE), ratio, np.nan)  # (V - 1, P)
    enough = np.isfinite(ratio).sum(1) >= FEWEST_SEEN * ratio.shape[1]
    return float(np.nanmedian(ratio[enough], axis=1).sum() / (1 + enough.sum())) if enough.any() else 0.0
