# SPDX-License-Identifier: Apache-2.0
"""Putting solids together: a scene that grows, places with their own axes to put things at, materials by choice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from training.raycast import BALL, BOX, CARD, CUP, RING, ROUND_BOX, TUBE, Solids
from training.textures import Bank

Vector = tuple[float, float, float] | np.ndarray


@dataclass(frozen=True)
class Material:
    """A tile on a surface, see `Solids`; `top` is the tile on upper faces where it differs."""

    tile: int
    top: int
    tile_m: float
    tint: tuple[float, float, float]
    gloss: float = 0.0
    glow: float = 0.0


@dataclass(eq=False)
class Scene:
    """Solids under construction, and how to draw materials for them."""

    rng: np.random.Generator
    bank: Bank
    rows: list[tuple[object, ...]] = field(default_factory=list)
    palette: list[Material] = field(default_factory=list)

    def place(self, x: float = 0, y: float = 0, z: float = 0, yaw: float = 0, scale: float = 1) -> Place:
        return Place(self, np.array([x, y, z], float), turn_z(yaw), scale)

    def material(self, category: str = "any", tile_m: tuple[float, float] = (0.3, 2.0)) -> Material:
        """A new material with a tile of that category."""
        rng = self.rng
        tile = int(rng.choice(self.bank.categories[category]))
        size = float(np.exp(rng.uniform(*np.log(tile_m))))
        tint = rng.uniform(0.7, 1.25) * rng.uniform(0.9, 1.1, 3)
        gloss = float(rng.random() < 0.25) * rng.uniform(0, 0.6)
        return Material(tile, tile, size, (float(tint[0]), float(tint[1]), float(tint[2])), gloss)

    def some_material(self) -> Material:
        """Mostly one of the few that a scene repeats; they are drawn on first use."""
        if not self.palette:
            self.palette = [
                self.material(self.rng.choice(["plain", "floor", "any", "any"])) for _ in range(self.rng.integers(3, 9))
            ]
        if self.rng.random() < 0.55:
            return self.palette[self.rng.integers(len(self.palette))]
        return self.material("any" if self.rng.random() < 0.6 else "plain")

    def add(
        self, kind: int, centre: np.ndarray, half: np.ndarray, rotation: np.ndarray, material: Material,
        shape: float = 1.0, shell: bool = False,
    ) -> None:  # fmt: skip
        self.rows.append(
            (
                kind, rotation, centre, np.maximum(half, 1e-3), shape, (material.tile, material.top), material.tile_m,
                self.rng.random(2), material.tint, material.gloss, material.glow, shell,
            )
        )  # fmt: skip

    def solids(self) -> Solids:
        columns = [np.array(column) for column in zip(*self.rows, strict=True)]
        kinds = [np.int32, *[np.float32] * 4, np.int32, *[np.float32] * 5, np.bool_]
        return Solids(*(np.ascontiguousarray(c, kind) for c, kind in zip(columns, kinds, strict=True)))


@dataclass(frozen=True, eq=False)
class Place:
    """Axes to put solids at: x to the right, y to the back, z up, metres times `scale`."""

    scene: Scene
    origin: np.ndarray
    rotation: np.ndarray
    scale: float = 1.0

    def at(self, x: float, y: float, z: float, yaw: float = 0, scale: float = 1) -> Place:
        return Place(self.scene, self._world((x, y, z)), self.rotation @ turn_z(yaw), self.scale * scale)

    def turned(self, rotation: np.ndarray) -> Place:
        return replace(self, rotation=self.rotation @ rotation)

    def box(self, centre: Vector, half: Vector, material: Material, yaw: float = 0, shell: bool = False) -> None:
        self._add(BOX, centre, half, material, yaw, shell=shell)

    def soft_box(
        self, centre: Vector, half: Vector, material: Material, roundness: float = 0.5, yaw: float = 0
    ) -> None:
        self._add(ROUND_BOX, centre, half, material, yaw, roundness * float(min(half)) * self.scale)

    def ball(self, centre: Vector, half: Vector, material: Material, cut: float = 1.0) -> None:
        self._add(BALL, centre, half, material, 0, cut)

    def tube(self, centre: Vector, half: Vector, material: Material, top: float = 1.0, is_open: bool = False) -> None:
        self._add(CUP if is_open else TUBE, centre, half, material, 0, top)

    def ring(self, centre: Vector, radius: float, thickness: float, material: Material) -> None:
        self._add(RING, centre, (radius, radius, thickness), material, 0, thickness * self.scale)

    def card(self, centre: Vector, width: float, height: float, yaw: float = 0) -> None:
        """A cut-out of that full size which stands upright and faces y."""
        self._add(CARD, centre, (width / 2, 1e-3, height / 2), self.scene.material("cutout"), yaw)

    def _world(self, local: Vector) -> np.ndarray:
        return np.asarray(self.origin + self.rotation @ (np.asarray(local, float) * self.scale))

    def _add(
        self, kind: int, centre: Vector, half: Vector, material: Material, yaw: float, shape: float = 1.0,
        shell: bool = False,
    ) -> None:  # fmt: skip
        size = np.asarray(half, float) * self.scale
        self.scene.add(kind, self._world(centre), size, self.rotation @ turn_z(yaw), material, shape, shell)


def turn_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def turn_x(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def any_turn(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q
