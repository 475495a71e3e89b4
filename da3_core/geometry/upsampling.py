# SPDX-License-Identifier: Apache-2.0
"""Depth at the size of its image: between the pixels of a depth map, the image says which of them a place belongs to.

Bilinear in 1 / depth, which is exact on planes, with every neighbour weighed by how much its colour resembles the
place's (joint bilateral upsampling, Kopf et al. 2007, on 2x2 neighbours). Each depth is within its neighbours'.
"""

import cv2
import numpy as np

_SIMILAR = 24.0  # sum over the channels of differences that two pixels of one surface have
_LEAST_WEIGHT = 1e-4  # of a neighbour that looks different, so that a place that looks like none takes the nearest
_PIXELS_AT_ONCE = 1 << 19


def upsample_guided(
    depth: np.ndarray, seen: np.ndarray, image: np.ndarray, seen_from_image: np.ndarray | None = None
) -> np.ndarray:
    """Depth of every pixel of an image.

    Args:
        depth: `(h, w)` z-depth; what is not finite and positive counts as unknown.
        seen: `(h, w, 3)` uint8 RGB, the image as the network saw it, pixel-aligned with depth.
        image: `(H, W, 3)` uint8 RGB, of any size.
        seen_from_image: `(3, 3)` takes pixel coordinates of the image to those of `seen`, a scale and a shift; by
            default `seen` shows all of the image.

    Returns:
        `(H, W)` float32; 0 where no neighbour is known, and beyond what `seen` shows.
    """
    height, width = image.shape[:2]
    if seen_from_image is None:
        seen_from_image = np.diag([seen.shape[1] / width, seen.shape[0] / height, 1.0])
    left, across, in_columns = _neighbours(width, seen.shape[1], seen_from_image[0, 0], seen_from_image[0, 2])
    top, down, in_rows = _neighbours(height, seen.shape[0], seen_from_image[1, 1], seen_from_image[1, 2])

    known = np.isfinite(depth) & (depth > 0)
    inverse = np.zeros(depth.shape, np.float32)
    np.divide(1, depth, out=inverse, where=known)
    likeness = _likeness()
    result = np.zeros((height, width), np.float32)
    rows_at_once = max(1, _PIXELS_AT_ONCE // width)
    for start in range(0, height, rows_at_once):
        rows = slice(start, min(start + rows_at_once, height))
        place = image[rows].astype(np.int16)
        total, weights = np.zeros((2, *place.shape[:2]), np.float32)
        for y, share_y in zip(top[:, rows], down[:, rows], strict=True):
            for x, share_x in zip(left, across, strict=True):
                neighbour = np.ix_(y, x)
                difference = np.abs(place - seen[neighbour]).sum(axis=2, dtype=np.int16)  # (rows, W)
                weight = likeness[difference]
                weight *= share_y[:, None] * share_x
                weight *= known[neighbour]
                total += weight * inverse[neighbour]
                weights += weight
        np.divide(weights, total, out=result[rows], where=total > 0)
    result[~in_rows] = 0
    result[:, ~in_columns] = 0
    return result


def resampled(values: np.ndarray, seen_from_image: np.ndarray, size: tuple[int, int], *, nearest: bool) -> np.ndarray:
    """A map of `seen` at the `size` of the image, `(H, W)`; linear, or the nearest pixel. See `upsample_guided`."""
    centres = seen_from_image[:2].copy()  # OpenCV has the centres of pixels at integers
    centres[:, 2] += 0.5 * (seen_from_image[[0, 1], [0, 1]] - 1)
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)
    return np.asarray(cv2.warpAffine(values, centres, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _neighbours(size: int, seen_size: int, scale: float, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of `size` pixels along an axis: `(2, size)` neighbours and their shares, `(size,)` whether it is seen."""
    edges = scale * (np.arange(size) + 0.5) + shift  # pixel edges at integers
    centres = edges - 0.5
    first = np.floor(centres)
    share = (centres - first).astype(np.float32)
    numbers = np.clip(np.stack([first, first + 1]), 0, seen_size - 1).astype(np.intp)
    return numbers, np.stack([1 - share, share]), (edges >= 0) & (edges <= seen_size)


def _likeness() -> np.ndarray:
    """`(766,)` float32, by the sum of the differences of three channels."""
    differences = np.arange(3 * 255 + 1, dtype=np.float32)
    return np.asarray(np.exp(-0.5 * (differences / _SIMILAR) ** 2) + _LEAST_WEIGHT, np.float32)
