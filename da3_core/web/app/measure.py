# SPDX-License-Identifier: Apache-2.0
"""Depth at a pixel, and the distance between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.export.points import has_depth
from da3_core.geometry.backprojection import backproject
from da3_core.prediction import Prediction

Pixel = tuple[int, int]  # column, row

_COLORS = ((230, 30, 60), (30, 110, 230))  # red first, then blue


@dataclass(frozen=True)
class Measurement:
    """What one or two pixels of a view tell, in metres or the model's unit.

    Attributes:
        depths: z-depth of each pixel; None where there is none, or sky.
        distance: between two points in space; None for one pixel, without depth, or without intrinsics.
        is_metric: whether these are metres.
    """

    depths: tuple[float | None, ...]
    distance: float | None
    is_metric: bool

    def __str__(self) -> str:
        unit = "m" if self.is_metric else "units"
        parts = [
            f"point {number}: {'no depth' if depth is None else f'depth {depth:.2f} {unit}'}"
            for number, depth in enumerate(self.depths, 1)
        ]
        if self.distance is not None:
            parts.append(f"distance {self.distance:.2f} {unit}")
        elif len(self.depths) == 2 and None not in self.depths:
            parts.append("no distance, because the intrinsics are not known")
        return ", ".join(parts)


def measure(prediction: Prediction, view: int, pixels: Sequence[Pixel]) -> Measurement:
    """
    Args:
        view: index of a view.
        pixels: one or two of its processed image; each stands for its centre.
    """
    depth = prediction.depth[view]
    valid = has_depth(depth) if prediction.sky is None else has_depth(depth) & ~prediction.sky[view]
    depths = tuple(float(depth[v, u]) if valid[v, u] else None for u, v in pixels)
    distance = None
    if len(pixels) == 2 and None not in depths and prediction.intrinsics is not None:
        one = slice(view, view + 1)
        (points,) = backproject(prediction.depth[one], prediction.intrinsics[one])
        first, second = (points[v, u].astype(np.float64) for u, v in pixels)
        distance = float(np.linalg.norm(second - first))
    return Measurement(depths, distance, bool(prediction.is_metric))


def draw_pixels(image: np.ndarray, pixels: Sequence[Pixel]) -> np.ndarray:
    """A copy of `(H, W, 3)` RGB with a mark at each pixel and a line between two."""
    import cv2

    drawn = image.copy()
    radius = max(3, min(image.shape[:2]) // 60)
    if len(pixels) == 2:
        cv2.line(drawn, pixels[0], pixels[1], (255, 255, 255), max(1, radius // 3), cv2.LINE_AA)
    for pixel, color in zip(pixels, _COLORS, strict=False):
        cv2.circle(drawn, pixel, radius, color, -1, cv2.LINE_AA)
        cv2.circle(drawn, pixel, radius, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn
