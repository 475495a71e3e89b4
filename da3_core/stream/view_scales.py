# SPDX-License-Identifier: Apache-2.0
"""The scale of single views against that of their window.

A network errs in the scale of each view's depth by itself, which a stream shows as flicker. But the views of a window
see the same surfaces from known places: what the others have there tells how much too large one has it.

An error that all views of a window share by their pixels looks much the same: it moves over the surfaces as the camera
does. But then neighbours agree, where errors of single views tell any two apart alike. Only the latter are removed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction

SAMPLES = 120  # pixels of each view
SAME_SURFACE = 0.4  # of the logarithm of depth: beyond it a pixel shows another surface
LEFT_TO_CHANCE = 2.0  # standard deviations
FEWEST_SEEN = 0.25  # of the pixels of a view that another one must have too


def steadied(prediction: Prediction) -> Prediction:
    """With the depth of every view at the scale that all views of the window have on average.

    Neighbours are those of its order, without views that have no depth. Where the cameras are unknown, or no other view
    sees the same, depth stays.
    """
    if prediction.extrinsics is None or prediction.usable_intrinsics is None or len(prediction.depth) < 2:
        return prediction
    log_scale = np.zeros(len(prediction.depth))
    for of_map in prediction.maps:
        views = of_map[prediction.has_depth[of_map]]
        if not len(views):
            continue
        of_views = _log_scales(prediction, views)
        log_scale[views] = _share_of_single_views(of_views) * of_views
    if not log_scale.any():
        return prediction
    return replace(prediction, depth=prediction.depth * np.exp(-log_scale).astype(np.float32)[:, None, None])


def _log_scales(prediction: Prediction, views: np.ndarray) -> np.ndarray:
    """`(V,)` of the depth of views that share a world over the mean of all."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    intrinsics = prediction.usable_intrinsics[views].astype(np.float64)
    projection = intrinsics @ prediction.extrinsics[views, :3].astype(np.float64)  # (V, 3, 4)
    points = _points(prediction, views)  # (V P, 3)
    x, y, z = (projection[..., i, :3] @ points.T + projection[..., i, 3:] for i in range(3))  # (V, V P)
    z = np.where(z > 0, z, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(_interpolated(prediction.depth, views, x / z, y / z) / z)
        ratio = np.where(np.abs(ratio) < SAME_SURFACE, ratio, np.nan)  # false where either is none
    ratio = ratio.reshape(len(views), len(views), -1)  # of a view to another, at P pixels
    count = np.isfinite(ratio).sum(2)
    ordered = np.sort(ratio, axis=2)  # NaN comes last
    median = np.take_along_axis(ordered, np.maximum(count - 1, 0)[:, :, None] // 2, axis=2)[:, :, 0]
    # What is hidden from one of two views is behind what it shows, whichever of them has the larger depth.
    of_both = np.minimum(count, count.T) >= max(1, FEWEST_SEEN * ratio.shape[2])
    scale = np.where(of_both, median - median.T, 0) / 2
    # A view's ratio to itself is 1, so it counts as one of the window.
    return np.asarray(scale.sum(1) / np.maximum(of_both.sum(1), 1))


def _share_of_single_views(log_scales: np.ndarray) -> float:
    """Of `(V,)`: 1 unless neighbours differ by less than errors of single views leave to chance; near 0 for slow
    changes along the window."""
    count = len(log_scales)
    variance = ((log_scales - log_scales.mean()) ** 2).sum()
    if count < 2 or variance == 0:
        return 1.0
    of_neighbours = (np.diff(log_scales) ** 2).sum() / 2  # as much as `variance`, on average, if they are independent
    by_chance = 1 - LEFT_TO_CHANCE * np.sqrt((count - 2) / (count**2 - 1))  # von Neumann's ratio
    return float(min(1.0, of_neighbours / (by_chance * variance)))


def _interpolated(depth: np.ndarray, views: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`(V, K)` of the depth of each view at its pixels `x`, `y` `(V, K)`, NaN outside. Its inverse is linear on
    planes."""
    height, width = depth.shape[1:]
    x, y = x - 0.5, y - 0.5
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    view, place = np.nonzero(inside)
    x, y = x[view, place], y[view, place]
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    right_share, bottom_share = x - left, y - top
    first = (views[view] * height + top) * width + left

    def inverse(offset: int) -> np.ndarray:
        return np.asarray(1 / depth.reshape(-1)[first + offset].astype(np.float64))

    upper = (1 - right_share) * inverse(0) + right_share * inverse(1)
    lower = (1 - right_share) * inverse(width) + right_share * inverse(width + 1)
    result = np.full(inside.shape, np.nan)
    result[view, place] = 1 / ((1 - bottom_share) * upper + bottom_share * lower)
    return result


def _points(prediction: Prediction, views: np.ndarray) -> np.ndarray:
    """`(V P, 3)` points of a grid of pixels of each view in the window's world; NaN where there is none."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    height, width = prediction.depth.shape[1:]
    step = max(1, int(np.ceil(np.sqrt(height * width / SAMPLES))))
    grid = slice(step // 2, height, step), slice(step // 2, width, step)
    rows, columns = np.mgrid[grid]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], -1).reshape(-1, 3)  # (P, 3)
    depth = prediction.depth[:, grid[0], grid[1]][views].reshape(len(views), -1).astype(np.float64)
    known = np.isfinite(depth) & (depth > 0)
    if prediction.sky is not None:
        known &= ~prediction.sky[:, grid[0], grid[1]][views].reshape(depth.shape)
    rays = pixels @ np.linalg.inv(prediction.usable_intrinsics[views].astype(np.float64)).transpose(0, 2, 1)
    cameras = invert_rigid(prediction.extrinsics[views].astype(np.float64))
    points = (rays * np.where(known, depth, np.nan)[:, :, None]) @ cameras[:, :3, :3].transpose(0, 2, 1)
    return np.asarray(points + cameras[:, None, :3, 3]).reshape(-1, 3)
