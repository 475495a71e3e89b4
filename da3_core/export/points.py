# SPDX-License-Identifier: Apache-2.0
"""Coloured world points of a prediction, for the formats that hold a point cloud."""

from dataclasses import dataclass

import numpy as np

from da3_core.geometry.backprojection import backproject
from da3_core.prediction import Prediction


@dataclass(frozen=True, eq=False)
class PointCloud:
    """`P` points, ordered by view, then by pixel, row by row.

    Attributes:
        positions: `(P, 3)` float32 in the world, or in the camera when the prediction has no poses.
        colors: `(P, 3)` uint8 RGB.
        views: `(P,)` the view that each point is seen in.
        pixels: `(P, 2)` column and row of that view's processed image.
    """

    positions: np.ndarray
    colors: np.ndarray
    views: np.ndarray
    pixels: np.ndarray


def has_depth(depth: np.ndarray) -> np.ndarray:
    """Which pixels have a depth at all: finite and positive, as a bool array of the shape of `depth`."""
    return np.asarray(np.isfinite(depth) & (depth > 0))


def background_pixels(images: np.ndarray, *, black: bool, white: bool) -> np.ndarray:
    """`(N, H, W)` bool: pixels of `(N, H, W, 3)` uint8 whose channels are all below 16, or all at least 240."""
    background = np.zeros(images.shape[:3], bool)
    if black:
        background |= (images < 16).all(axis=-1)
    if white:
        background |= (images >= 240).all(axis=-1)
    return background


def confident_pixels(prediction: Prediction, percentile: float) -> np.ndarray:
    """`(N, H, W)` bool: pixels with a depth, but the sky, whose confidence reaches this percentile of theirs."""
    keep = has_depth(prediction.depth)
    if prediction.sky is not None:
        keep &= ~prediction.sky
    if prediction.conf is not None and keep.any():
        keep &= prediction.conf >= np.percentile(prediction.conf[keep], percentile)
    return keep


def extract_points(prediction: Prediction, depth: np.ndarray, keep: np.ndarray, max_points: int) -> PointCloud:
    """The points of the kept pixels; beyond `max_points`, every view keeps the same share of its own, drawn at random.

    Thinning happens view by view, so the memory needed is that of one view and of the result. The draw is seeded.

    Args:
        prediction: gives colours and cameras.
        depth: `(N, H, W)` z-depth.
        keep: `(N, H, W)` bool.
        max_points: upper bound of `P`.
    """
    assert prediction.processed_images is not None
    assert prediction.usable_intrinsics is not None
    random = np.random.default_rng(0)
    ends = np.cumsum(np.count_nonzero(keep, axis=(1, 2)))
    share = min(1.0, max_points / max(int(ends[-1]), 1))
    quotas = np.diff(np.floor(ends * share + 0.5).astype(int), prepend=0)

    positions, colors, pixels = [], [], []
    for view, quota in enumerate(quotas):
        chosen = np.flatnonzero(keep[view])
        if quota < len(chosen):
            chosen = np.sort(random.choice(chosen, quota, replace=False))
        one = slice(view, view + 1)
        extrinsics = None if prediction.extrinsics is None else prediction.extrinsics[one]
        kept_depth = np.where(keep[one], depth[one], 0)
        positions.append(backproject(kept_depth, prediction.usable_intrinsics[one], extrinsics).reshape(-1, 3)[chosen])
        colors.append(prediction.processed_images[view].reshape(-1, 3)[chosen])
        pixels.append(np.stack([chosen % depth.shape[2], chosen // depth.shape[2]], axis=1))
    views = np.repeat(np.arange(len(quotas)), quotas)
    return PointCloud(np.concatenate(positions), np.concatenate(colors), views, np.concatenate(pixels))
