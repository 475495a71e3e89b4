# SPDX-License-Identifier: Apache-2.0
"""Solids of a synthetic scene: where a ray meets them, how far a point is from them, how their faces unroll.

Each shape is a unit thing (box, ellipsoid, upright cylinder) with a centre, half sizes and a rotation. World axes are
those of REP-103's ground frames, x and y level and z up, in metres. A face unrolls to `(u, v)` metres counted from its
top left corner as seen by somebody who looks at it, u to the right and v down, like an image that hangs there.

Points, directions and `(u, v)` are columns here, `(3, n)` and `(2, n)`: numpy is several times faster along long axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

_MISS = np.float32(np.inf)
_NEARLY_PARALLEL = 1e-18  # in place of 0, by which rays along a plane through the origin would give 0 / 0


@dataclass(frozen=True)
class Material:
    """What covers a face.

    Attributes:
        texture: name of a pattern, `kind` or `kind:variant`.
        tile_m: width and height in metres that one copy of the pattern covers.
        tint: factor on red, green and blue.
        emission: brightness of a face that shines by itself (a lamp, a window); 0 for faces that lamps light.
    """

    texture: str
    tile_m: tuple[float, float] = (1.0, 1.0)
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    emission: float = 0.0


@dataclass(frozen=True, eq=False)
class Shape(ABC):
    """A solid with `center` (3,) and `half_size` (3,) in metres and `rotation` (3, 3), local to world.

    `materials` has one entry for each face, or one for all of them.
    """

    center: np.ndarray
    half_size: np.ndarray
    materials: tuple[Material, ...]
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    faces = 1

    @abstractmethod
    def _hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _distance(self, points: np.ndarray, half_size: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _unroll(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...

    @abstractmethod
    def _roll(self, face: int, uv: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def face_size(self, face: int) -> tuple[float, float]:
        """Width and height of the unrolled face, metres."""

    def material(self, face: int) -> Material:
        return self.materials[face if len(self.materials) > 1 else 0]

    def corners(self) -> np.ndarray:
        """`(3, 8)` corners of the bounding box, world metres."""
        signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]).T
        return np.asarray(self.rotation @ (signs * self.half_size[:, None]) + self.center[:, None])

    def hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Smallest positive ray parameter where rays from one `origin` (3,) along `directions` (3, n) meet the shape.

        `(n,)` float32, inf where they miss. Solids are hit from outside only.
        """
        local_origin = (self.rotation.T @ (origin - self.center)).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            local = self.rotation.T.astype(np.float32) @ directions
            local[local == 0] = _NEARLY_PARALLEL
            return self._hit(local_origin[:, None], local)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """`(n,)` metres from `points` (3, n) to the surface, positive in free space (ellipsoids: to first order)."""
        rotation, center, half_size = (
            array.astype(points.dtype) for array in (self.rotation, self.center[:, None], self.half_size[:, None])
        )
        return self._distance(rotation.T @ (points - center), half_size)

    def unroll(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face `(n,)`, place on it `(2, n)` in metres and world normal `(3, n)` of float32 surface points."""
        rotation = self.rotation.astype(np.float32)
        face, uv, normal = self._unroll(rotation.T @ (points - self.center[:, None].astype(np.float32)))
        return face, uv, rotation @ normal

    def roll(self, face: int, uv: np.ndarray) -> np.ndarray:
        """World points `(3, n)` at `uv` (2, n) metres on a face: the inverse of `unroll`."""
        return np.asarray(self.rotation @ self._roll(face, uv) + self.center[:, None])


# Faces of a box in the order -x +x -y +y -z +z: the axis and the sense in which u and v run, seen from outside.
_U_AXIS, _U_SIGN = (1, 1, 0, 0, 0, 0), (-1, 1, 1, -1, 1, 1)
_V_AXIS, _V_SIGN = (2, 2, 2, 2, 1, 1), (-1, -1, -1, -1, -1, -1)


@dataclass(frozen=True, eq=False)
class Box(Shape):
    """A box; faces in the order -x +x -y +y -z +z."""

    faces = 6
    _u_sign = _U_SIGN
    _outward = 1

    def _slabs(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ray parameters of entering and leaving the box: between all three pairs of planes."""
        middle = -origin / directions
        reach = self.half_size[:, None].astype(np.float32) / np.abs(directions)
        return (middle - reach).max(0), (middle + reach).min(0)

    def _hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        enter, leave = self._slabs(origin, directions)
        return np.where((enter < leave) & (enter > 0), enter, _MISS)

    def _distance(self, points: np.ndarray, half_size: np.ndarray) -> np.ndarray:
        excess = np.abs(points) - half_size
        return np.asarray(np.sqrt((np.maximum(excess, 0) ** 2).sum(0)) + np.minimum(excess.max(0), 0))

    def _unroll(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        half = self.half_size.astype(np.float32)
        axis = (np.abs(points) - half[:, None]).argmax(0)
        face = 2 * axis + (np.take_along_axis(points, axis[None], 0)[0] > 0)
        uv, normal = np.empty((2, len(face)), np.float32), np.zeros_like(points)
        for number in range(6):
            there = np.flatnonzero(face == number)
            u, v = _U_AXIS[number], _V_AXIS[number]
            uv[0, there] = half[u] + self._u_sign[number] * points[u, there]
            uv[1, there] = half[v] + _V_SIGN[number] * points[v, there]
            normal[number // 2, there] = self._outward * (1 if number % 2 else -1)
        return face, uv, normal

    def _roll(self, face: int, uv: np.ndarray) -> np.ndarray:
        u, v = _U_AXIS[face], _V_AXIS[face]
        points = np.empty((3, uv.shape[1]))
        points[face // 2] = self.half_size[face // 2] * (1 if face % 2 else -1)
        points[u] = (uv[0] - self.half_size[u]) * self._u_sign[face]
        points[v] = (uv[1] - self.half_size[v]) * _V_SIGN[face]
        return points

    def face_size(self, face: int) -> tuple[float, float]:
        return 2 * float(self.half_size[_U_AXIS[face]]), 2 * float(self.half_size[_V_AXIS[face]])


@dataclass(frozen=True, eq=False)
class Room(Box):
    """A box seen from inside: walls, floor and ceiling."""

    _u_sign = (1, -1, -1, 1, 1, 1)
    _outward = -1

    def _hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return self._slabs(origin, directions)[1]

    def _distance(self, points: np.ndarray, half_size: np.ndarray) -> np.ndarray:
        return -super()._distance(points, half_size)


@dataclass(frozen=True, eq=False)
class Ellipsoid(Shape):
    """An ellipsoid; its one face unrolls by longitude and latitude."""

    def _hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        half = self.half_size[:, None].astype(np.float32)
        origin, directions = origin / half, directions / half
        # Distance from the centre at the nearest point of the ray: no difference of large squares, exact in float32.
        squared = (directions * directions).sum(0)
        nearest = -(directions * origin).sum(0) / squared
        inside = 1 - ((origin + nearest * directions) ** 2).sum(0)
        enter = nearest - np.sqrt(np.maximum(inside, 0) / squared)
        return np.where((inside > 0) & (enter > 0), enter, _MISS)

    def _distance(self, points: np.ndarray, half_size: np.ndarray) -> np.ndarray:
        unit = points / half_size
        radius = np.sqrt((unit**2).sum(0))
        slope = np.sqrt(((unit / half_size) ** 2).sum(0))
        depth = radius * (radius - 1) / np.maximum(slope, 1e-9)
        return np.asarray(np.where(radius > 1e-6, depth, -half_size.min()))

    def _unroll(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        half = self.half_size[:, None].astype(np.float32)
        x, y, z = unit = points / half
        width, height = self.face_size(0)
        longitude, latitude = np.arctan2(y, x) / (2 * np.pi) + 0.5, 0.5 - np.arcsin(np.clip(z, -1, 1)) / np.pi
        normal = unit / half
        uv = np.stack([longitude * width, latitude * height])
        return np.zeros(len(x), np.intp), uv, normal / np.sqrt((normal**2).sum(0))

    def _roll(self, face: int, uv: np.ndarray) -> np.ndarray:
        width, height = self.face_size(face)
        longitude, latitude = uv[0] / width * 2 * np.pi, uv[1] / height * np.pi
        ring = np.sin(latitude)
        unit = np.stack([-np.cos(longitude) * ring, -np.sin(longitude) * ring, np.cos(latitude)])
        return np.asarray(unit * self.half_size[:, None])

    def face_size(self, face: int) -> tuple[float, float]:
        return 2 * np.pi * float(self.half_size[:2].max()), np.pi * float(self.half_size[2])


@dataclass(frozen=True, eq=False)
class Cylinder(Shape):
    """A round upright cylinder, radius `half_size[0]`; faces: side, bottom, top."""

    faces = 3

    def _hit(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        radius, _, half_height = self.half_size.astype(np.float32)
        level, rise = directions[:2], directions[2]
        squared = (level * level).sum(0)
        nearest = -(level * origin[:2]).sum(0) / squared
        inside = radius * radius - ((origin[:2] + nearest * level) ** 2).sum(0)
        chord = np.sqrt(np.maximum(inside, 0) / squared)
        middle, reach = -origin[2] / rise, half_height / np.abs(rise)
        enter, leave = np.maximum(nearest - chord, middle - reach), np.minimum(nearest + chord, middle + reach)
        return np.where((inside > 0) & (enter < leave) & (enter > 0), enter, _MISS)

    def _distance(self, points: np.ndarray, half_size: np.ndarray) -> np.ndarray:
        excess = np.stack([np.hypot(points[0], points[1]) - half_size[0], np.abs(points[2]) - half_size[2]])
        return np.asarray(np.sqrt((np.maximum(excess, 0) ** 2).sum(0)) + np.minimum(excess.max(0), 0))

    def _unroll(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        radius, _, half_height = self.half_size.astype(np.float32)
        x, y, z = points
        radial = np.hypot(x, y)
        on_cap = np.abs(z) - half_height > radial - radius
        face = np.where(on_cap, np.where(z > 0, 2, 1), 0)
        turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
        uv = np.where(on_cap, [radius + x, radius - y], [turn * self.face_size(0)[0], half_height - z])
        outward = 1 / np.maximum(radial, np.float32(1e-9))
        zero = np.zeros_like(x)
        normal = np.where(on_cap, [zero, zero, np.sign(z)], [x * outward, y * outward, zero])
        return face, uv, normal

    def _roll(self, face: int, uv: np.ndarray) -> np.ndarray:
        radius, _, half_height = self.half_size
        if face == 0:
            turn = uv[0] / radius
            return np.stack([-radius * np.cos(turn), -radius * np.sin(turn), half_height - uv[1]])
        height = np.full_like(uv[0], half_height if face == 2 else -half_height)
        return np.stack([uv[0] - radius, radius - uv[1], height])

    def face_size(self, face: int) -> tuple[float, float]:
        diameter = 2 * float(self.half_size[0])
        return (np.pi * diameter, 2 * float(self.half_size[2])) if face == 0 else (diameter, diameter)
