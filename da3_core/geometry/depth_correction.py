# SPDX-License-Identifier: Apache-2.0
"""What matches triangulate corrects the depth of a view: smoothly over the image, and over near and far.

The logarithm of the factor is a Gaussian process of three parts: one number for the view, a slope over the logarithm of
depth (networks draw near and far together), and patches of a third of the image. Where no match is, it returns to what
the view's other matches say, and to none far from all of them. Matches that disagree with their neighbours count less
(Cauchy), since some are wrong.
"""

from __future__ import annotations

import numpy as np

UNIT, SLOPE, PATCHES = 0.1, 0.3, 0.15  # standard deviations of the three parts
PATCH_SIZE = 0.3  # of the longer side
UNEVENNESS = 0.05  # of depth within such a patch, which no smooth correction mends
ROBUST_WIDTH, ROUNDS = 2.0, 4
MIN_MATCHES, MOST_MATCHES = 15, 400  # fewer say too little, more take long
LARGEST = 0.7  # of the logarithm
_GRID = (12, 16)


def fit_correction(pixels: np.ndarray, log_ratios: np.ndarray, deviations: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """`(H, W)` factors for the depth of a view; ones where too few matches tell.

    Args:
        pixels: `(M, 2)` of the matches, x y, pixel edges at integers.
        log_ratios: `(M,)` logarithms of the depth that they triangulate over the one that is there.
        deviations: `(M,)` their standard deviations.
        depth: `(H, W)` z-depth; what is not finite and positive gets what the median depth would.
    """
    height, width = depth.shape
    if len(pixels) < MIN_MATCHES:
        return np.ones_like(depth)
    best = np.argsort(deviations, kind="stable")[:MOST_MATCHES]
    pixels, log_ratios, deviations = pixels[best], log_ratios[best], deviations[best]
    places = pixels / (PATCH_SIZE * max(height, width))
    columns, rows = (np.clip(pixels[:, i].astype(int), 0, size - 1) for i, size in ((0, width), (1, height)))
    with np.errstate(invalid="ignore", divide="ignore"):
        log_depth = np.log(depth)
    middle = float(np.median(log_depth[rows, columns]))
    log_depth = np.where(np.isfinite(log_depth), log_depth, middle)
    near_far = log_depth[rows, columns] - middle

    prior = UNIT**2 + SLOPE**2 * np.outer(near_far, near_far) + PATCHES**2 * _alike(places, places)
    noise, weights = deviations**2 + UNEVENNESS**2, np.ones(len(places))
    for _ in range(ROUNDS):
        alpha = np.linalg.solve(prior + np.diag(noise / weights), log_ratios)
        left = (log_ratios - prior @ alpha) ** 2 / noise
        weights = 1 / (1 + left / ROBUST_WIDTH**2)
    y, x = ((np.arange(count) + 0.5) / count * size for count, size in zip(_GRID, (height, width), strict=True))
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2) / (PATCH_SIZE * max(height, width))
    smooth = (PATCHES**2 * _alike(grid, places) @ alpha).reshape(_GRID)
    slope = SLOPE**2 * float(near_far @ alpha)
    within = np.clip(log_depth - middle, near_far.min(), near_far.max())
    logarithm = UNIT**2 * alpha.sum() + slope * within + _enlarged(smooth, (height, width))
    return np.asarray(np.exp(np.clip(logarithm, -LARGEST, LARGEST)), depth.dtype)


def _alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`(A, B)` from 1 of the same place to 0 of distant ones."""
    squared = ((first[:, None] - second[None]) ** 2).sum(-1)
    return np.asarray(np.exp(-squared / 2))


def _enlarged(smooth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return np.asarray(cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_CUBIC))
