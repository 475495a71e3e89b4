# SPDX-License-Identifier: Apache-2.0
"""Soft light, computed once for a scene: one small light map for every face, with shadows and dark corners.

The light does not depend on where the camera is, so a point has one colour in all frames, as matchers want it, and a
frame costs no more than a look-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from da3_core.synthetic.scene import AreaLight, Scene
from da3_core.synthetic.shapes import Shape

TEXEL_M = 0.06
_SELF_M = 2e-3  # a hit this close to the point is the point itself
_OCCLUSION_STEPS_M = (0.04, 0.12, 0.3, 0.7)
_OCCLUSION_WEIGHTS = (0.2, 0.25, 0.25, 0.2)


@dataclass(frozen=True, eq=False)
class LightMap:
    """Brightness over one face: `(3, h, w)` float32 display factors, their centres spread over `size_m` (w, h)."""

    brightness: np.ndarray
    size_m: tuple[float, float]

    def sample(self, uv: np.ndarray) -> np.ndarray:
        """`(3, n)` bilinear brightness at `uv` (2, n) metres on the face; constant beyond its edge texels."""
        rows, columns = self.brightness.shape[1:]
        u = np.clip(uv[0] * np.float32(columns / self.size_m[0]) - np.float32(0.5), 0, np.float32(columns - 1.001))
        v = np.clip(uv[1] * np.float32(rows / self.size_m[1]) - np.float32(0.5), 0, np.float32(rows - 1.001))
        column, row = u.astype(np.intp), v.astype(np.intp)
        across, down = u - column, v - row
        texels, near = self.brightness.reshape(3, -1), row * columns + column
        upper = texels[:, near] * (1 - across) + texels[:, near + 1] * across
        lower = texels[:, near + columns] * (1 - across) + texels[:, near + columns + 1] * across
        return np.asarray(upper * (1 - down) + lower * down)


def bake(scene: Scene, texel_m: float = TEXEL_M) -> dict[tuple[int, int], LightMap]:
    """Light maps of all faces, by shape index and face index."""
    keys = [(index, face) for index, shape in enumerate(scene.shapes) for face in range(shape.faces)]
    grids = [_face_grid(scene.shapes[index], face, texel_m) for index, face in keys]
    points = np.concatenate([points for points, _, _ in grids], axis=1)
    normals = np.concatenate([normals for _, normals, _ in grids], axis=1)
    # Pictures hold display values, about the square root of reflected light, so light enters as its square root too.
    brightness = np.sqrt(_irradiance(scene, points, normals))
    maps, start = {}, 0
    for (index, face), (_, _, (rows, columns)) in zip(keys, grids, strict=True):
        shape, stop = scene.shapes[index], start + rows * columns
        own = shape.material(face).emission
        texels = brightness[:, start:stop].reshape(3, rows, columns)
        maps[index, face] = LightMap(np.full_like(texels, own) if own else texels, shape.face_size(face))
        start = stop
    return maps


def _face_grid(shape: Shape, face: int, texel_m: float) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """World points and normals `(3, n)` of a face's texel centres, and the rows and columns of its map."""
    width, height = shape.face_size(face)
    columns, rows = max(2, round(width / texel_m)), max(2, round(height / texel_m))
    v, u = np.mgrid[0:rows, 0:columns].reshape(2, -1) + 0.5
    points = shape.roll(face, np.stack([u * width / columns, v * height / rows])).astype(np.float32)
    return points, shape.unroll(points)[2], (rows, columns)


def _irradiance(scene: Scene, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """`(3, n)` float32 light that arrives at surface points."""
    up = 0.5 + 0.5 * normals[2]
    below, above = scene.ambient[..., None].astype(np.float32)
    light = (below * (1 - up) + above * up) * _openness(scene, points, normals)
    for lamp in scene.lights:
        light += lamp.colour[:, None].astype(np.float32) * _direct(scene, lamp, points, normals)
    return np.asarray(light)


def _openness(scene: Scene, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share `(n,)` of the surrounding light that reaches each point, by the free space on the way out.

    After Evans, Fast Approximations for Global Illumination on Dynamic Scenes (2006).
    """
    blocked = np.zeros(points.shape[1], np.float32)
    for step, weight in zip(_OCCLUSION_STEPS_M, _OCCLUSION_WEIGHTS, strict=True):
        free = np.maximum(scene.free_distance(points + step * normals, limit_m=step), 0)
        blocked += weight * (1 - free / step)
    return 1 - blocked


def _direct(scene: Scene, lamp: AreaLight, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Light `(n,)` of one lamp of radiance 1: Lambert's law for each of its samples that sees the point."""
    area = 4 * np.linalg.norm(np.cross(*lamp.half_sides))
    steps = (np.arange(lamp.samples) + 0.5) / lamp.samples * 2 - 1
    total = np.zeros(points.shape[1], np.float32)
    for a, b in product(steps, steps):
        source = lamp.center + a * lamp.half_sides[0] + b * lamp.half_sides[1]
        rays = points - source[:, None].astype(np.float32)
        distance = np.sqrt((rays**2).sum(0))
        directions = rays / distance
        leaving, arriving = lamp.normal.astype(np.float32) @ directions, -(directions * normals).sum(0)
        lit = np.flatnonzero((leaving > 0) & (arriving > 0))
        lit = lit[_visible(scene, source, directions[:, lit], distance[lit])]
        total[lit] += leaving[lit] * arriving[lit] / distance[lit] ** 2
    return total * np.float32(area / lamp.samples**2)


def _visible(scene: Scene, source: np.ndarray, directions: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Which of the points `source + distance * directions` nothing hides from the source: `(n,)` bool."""
    visible = np.ones(len(distance), bool)
    for shape in scene.shapes:
        if any(material.emission for material in shape.materials):
            continue  # lamps and windows do not shade themselves
        away = shape.center - source
        gap, radius = np.linalg.norm(away), np.linalg.norm(shape.half_size)
        # Only points behind the shape's bounding sphere, in the cone that touches it, can be hidden by it.
        cone = np.sqrt(1 - (radius / gap) ** 2) if gap > radius else -1.0
        rows = np.flatnonzero(away.astype(np.float32) @ directions > np.float32(cone * gap))
        rows = rows[distance[rows] > gap - radius]
        visible[rows] &= shape.hit(source, directions[:, rows]) > distance[rows] - _SELF_M
    return visible
