# SPDX-License-Identifier: Apache-2.0
"""A scene: shapes with materials, and the lamps and windows that light them. It knows nothing of cameras or pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from da3_core.synthetic.shapes import Shape


@dataclass(frozen=True, eq=False)
class AreaLight:
    """A shining rectangle.

    Attributes:
        center: `(3,)` world metres.
        half_sides: `(2, 3)` from the centre to the middle of two neighbouring sides, world metres.
        normal: `(3,)` unit vector into the room.
        colour: `(3,)` radiance of red, green and blue.
        samples: points along each side that cast shadows.
    """

    center: np.ndarray
    half_sides: np.ndarray
    normal: np.ndarray
    colour: np.ndarray
    samples: int = 3


@dataclass(frozen=True, eq=False)
class Scene:
    """Shapes in world metres (z up), area lights, and the light that comes from everywhere.

    Attributes:
        ambient: `(2, 3)` colour of the light from below and from above.
    """

    shapes: tuple[Shape, ...]
    lights: tuple[AreaLight, ...]
    ambient: np.ndarray

    def free_distance(self, points: np.ndarray, limit_m: float = np.inf) -> np.ndarray:
        """`(n,)` metres from `points` (3, n) to the nearest surface, negative inside a solid or a wall.

        Distances beyond `limit_m` come back as `limit_m`: that is faster.
        """
        nearest = np.full(points.shape[1], limit_m, points.dtype)
        for shape in self.shapes:
            corners = shape.corners()
            low, high = (extreme[:, None].astype(points.dtype) for extreme in (corners.min(1), corners.max(1)))
            near = np.flatnonzero(np.maximum(low - points, points - high).max(0) < nearest)
            nearest[near] = np.minimum(nearest[near], shape.distance(points[:, near]))
        return nearest

    def surface_distance(self, points: np.ndarray) -> np.ndarray:
        """Unsigned metres from world `points` (..., 3) to the nearest surface of any shape: `(...)`.

        Analytic, in float64; for ellipsoids to first order, hence exact for points near the surface.
        """
        columns = np.asarray(points, np.float64).reshape(-1, 3).T
        nearest = np.full(columns.shape[1], np.inf)
        for shape in self.shapes:
            nearest = np.minimum(nearest, np.abs(shape.distance(columns)))
        return nearest.reshape(np.shape(points)[:-1])
