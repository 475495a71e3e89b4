# SPDX-License-Identifier: Apache-2.0
"""Depth as colours: near is red, far is violet-blue, shared by the exporters and the live preview."""

import numpy as np

# Spectral, the diverging scheme of 11 classes (ColorBrewer 2.0, C. Brewer, Pennsylvania State University).
_SPECTRAL = np.array(
    [
        (158, 1, 66),
        (213, 62, 79),
        (244, 109, 67),
        (253, 174, 97),
        (254, 224, 139),
        (255, 255, 191),
        (230, 245, 152),
        (171, 221, 164),
        (102, 194, 165),
        (50, 136, 189),
        (94, 79, 162),
    ],
    dtype=np.float64,
)


def spectral(values: np.ndarray) -> np.ndarray:
    """Colours `(..., 3)` uint8 of values in [0, 1]: 0 is dark red, 1 is violet-blue."""
    table = np.stack([np.interp(np.linspace(0, 10, 256), np.arange(11), channel) for channel in _SPECTRAL.T], axis=-1)
    # In place and 16-bit on purpose: this runs for every frame of a live preview.
    level = np.clip(values, 0.0, 1.0) * 256.0
    return np.asarray(table.astype(np.uint8)[np.minimum(level.astype(np.uint16), 255)])


def depth_range(depth: np.ndarray, percentiles: tuple[float, float] = (2.0, 98.0)) -> tuple[float, float]:
    """Nearest and farthest depth worth a colour: percentiles of the inverse depth over the valid pixels.

    Args:
        depth: any shape; only finite positive values count.
        percentiles: of inverse depth, so the first one sets `far`.

    Returns:
        `(near, far)` in the unit of `depth`; `(inf, inf)` when 10 pixels or fewer are valid.
    """
    valid = depth[_has_depth(depth)].astype(np.float32)
    if valid.size <= 10:
        return np.inf, np.inf
    low, high = np.percentile(1.0 / valid, percentiles)
    return float(1.0 / high), float(1.0 / low)


def colorize_depth(depth: np.ndarray, near: float | None = None, far: float | None = None) -> np.ndarray:
    """Colours of a depth map, linear in inverse depth.

    Args:
        depth: `(H, W)`; zero, negative and non-finite values are drawn as infinitely far.
        near, far: the depths that get the first and the last colour; each defaults to this map's `depth_range`.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    if near is None or far is None:
        own_near, own_far = depth_range(depth)
        near = own_near if near is None else near
        far = own_far if far is None else far
    low, high = 1.0 / far, 1.0 / near
    if low == high:
        low, high = low - 1e-6, high + 1e-6
    depth = depth.astype(np.float32, copy=False)
    inverse = np.divide(1.0, depth, out=np.zeros_like(depth), where=_has_depth(depth))
    return spectral((high - inverse) / (high - low))


def _has_depth(depth: np.ndarray) -> np.ndarray:
    # A plain float32 comparison: NumPy 1 would compare float16 with the smallest float32 rounded to 0.
    depth = depth.astype(np.float32, copy=False)
    return np.asarray(np.isfinite(depth) & (depth >= np.finfo(np.float32).tiny))
