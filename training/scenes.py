# SPDX-License-Identifier: Apache-2.0
"""Whole scenes: rooms, corridors, table tops, streets, open ground, each with its light and where cameras may stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.builder import Material, Place, Scene
from training.raycast import Light
from training.textures import Bank, palette
from training.things import FURNITURE, OUTDOORS, SMALL, clutter, house, tree

Sampler = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Stage:
    """A scene ready for cameras.

    Attributes:
        scene: the solids.
        light: what lights them.
        look: draws a place for the first camera and a point to look at, (3,) metres each.
        step_m: typical distance between neighbouring cameras.
        style: name of the kind of scene.
    """

    scene: Scene
    light: Light
    look: Sampler
    step_m: float
    style: str


def make_stage(rng: np.random.Generator, bank: Bank) -> Stage:
    """A scene of random kind: two fifths rooms, the rest corridors, table tops, streets and open ground."""
    kind = rng.choice([_room, _corridor, _table_top, _street, _open_ground], p=[0.4, 0.1, 0.22, 0.16, 0.12])
    return kind(rng, Scene(rng, bank))  # type: ignore[no-any-return]


def _room(rng: np.random.Generator, scene: Scene) -> Stage:
    width, depth, height = rng.uniform(2.4, 8), rng.uniform(2.4, 10), rng.uniform(2.2, 3.6)
    windows = _shell(scene, width, depth, height)
    for _ in range(int(rng.integers(3, 13))):
        _furnish(rng, scene, width, depth)
    if rng.random() < 0.5:
        _hang(rng, scene, width, depth, height, int(rng.integers(1, 6)))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = r.choice([r.uniform(0.15, 0.6), r.uniform(0.8, 1.9), r.uniform(1.5, height - 0.3)], p=[0.2, 0.6, 0.2])
        eye = np.array([r.uniform(-0.46, 0.46) * width, r.uniform(-0.46, 0.46) * depth, level])
        aim = np.array([r.uniform(-0.45, 0.45) * width, r.uniform(-0.45, 0.45) * depth, r.uniform(-0.2, 1.8)])
        return eye, aim

    return Stage(scene, _indoor_light(rng, width, depth, height, windows), look, 0.4, "room")


def _corridor(rng: np.random.Generator, scene: Scene) -> Stage:
    width, depth, height = rng.uniform(1.2, 2.8), rng.uniform(5, 22), rng.uniform(2.1, 3.2)
    windows = _shell(scene, width, depth, height, doors=int(rng.integers(1, 7)))
    for _ in range(int(rng.integers(0, 7))):
        _furnish(rng, scene, width, depth, middle=0.15)
    if rng.random() < 0.4:  # a vault of beams
        beam, gap = scene.some_material(), rng.uniform(0.8, 2.5)
        for y in np.arange(-depth / 2, depth / 2, gap):
            scene.place(0, y, 0).box((0, 0, height - 0.1), (width / 2, 0.06, 0.1), beam)

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        eye = np.array([r.uniform(-0.4, 0.4) * width, r.uniform(-0.48, 0.48) * depth, r.uniform(0.2, 1.9)])
        ahead = eye[1] + r.choice([-1, 1]) * r.uniform(2, 8)
        return eye, np.array([r.uniform(-0.6, 0.6) * width, ahead, r.uniform(0.3, 1.7)])

    return Stage(scene, _indoor_light(rng, width, depth, height, windows), look, 0.45, "corridor")


def _table_top(rng: np.random.Generator, scene: Scene) -> Stage:
    """Things close by on a plate or on the floor, before whatever stands behind."""
    reach = rng.uniform(0.2, 0.9)
    plate = scene.material(rng.choice(["floor", "any", "plain"]), (0.15, 1.0))
    top, indoors = rng.uniform(0.3, 0.9), rng.random() < 0.75
    if rng.random() < 0.75:
        half = reach * np.array([rng.uniform(1, 2), rng.uniform(1, 2)])
        scene.place(yaw=rng.uniform(0, 6.3)).box((0, 0, top - 0.02), (half[0], half[1], 0.02), plate)
    else:
        top = 0.0
    size = rng.uniform(2.5, 6) + 2 * reach
    windows = _shell(scene, size, size, rng.uniform(2.2, 3.2)) if indoors else False
    if not indoors:
        _ground(rng, scene)
        for _ in range(int(rng.integers(2, 8))):
            angle, far = rng.uniform(0, 6.3), rng.uniform(2, 12)
            OUTDOORS[rng.integers(len(OUTDOORS))](scene.place(far * np.cos(angle), far * np.sin(angle), 0, angle))
    else:
        for _ in range(int(rng.integers(0, 5))):
            _furnish(rng, scene, size, size, middle=0.0)
    spot = scene.place(0, 0, top, rng.uniform(0, 6.3), reach * rng.uniform(0.9, 2.0))
    clutter(spot, 0.6, 0.6, int(rng.integers(2, 14)))
    if rng.random() < 0.3:  # one large thing in the middle
        SMALL[rng.integers(len(SMALL))](spot.at(0, 0, 0, 0, rng.uniform(2, 4)))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        around, up, far = r.uniform(0, 6.3), np.deg2rad(r.uniform(3, 75)), r.uniform(0.8, 2.6) * reach + 0.1
        out = far * np.array([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)])
        aim = np.array([0, 0, top + 0.08 * reach]) + r.normal(size=3) * np.array([0.25, 0.25, 0.08]) * reach
        return np.array([0, 0, top + 0.02]) + out, aim

    lit = _indoor_light(rng, size, size, 2.2, windows) if indoors else _daylight(rng, 0.4)
    return Stage(scene, lit, look, 0.45 * reach, "table")


def _street(rng: np.random.Generator, scene: Scene) -> Stage:
    half_width, length = rng.uniform(2.5, 9), rng.uniform(15, 45)
    _ground(rng, scene)
    kerb = scene.material("floor", (0.5, 2))
    for side in (-1, 1):
        if rng.random() < 0.7:
            scene.place().box((side * half_width, length / 2, 0.05), (half_width * 0.3, length, 0.06), kerb, shell=True)
        y = -length * 0.5
        while y < length * 1.4 and rng.random() < 0.97:
            width = rng.uniform(1.5, 5)
            if rng.random() < 0.85:
                distance = side * (half_width * 1.3 + rng.uniform(2, 5))
                house(scene.place(distance, y + width, 0, -side * np.pi / 2), width)
            y += 2 * width * rng.uniform(1, 1.25)
    for _ in range(int(rng.integers(4, 18))):
        edge = rng.random() < 0.6
        x = rng.choice([-1, 1]) * half_width * rng.uniform(0.8, 1.25) if edge else rng.uniform(-0.8, 0.8) * half_width
        place = scene.place(x, rng.uniform(-0.3, 1) * length, 0, rng.choice([0, np.pi / 2]) + rng.normal() * 0.2)
        OUTDOORS[rng.integers(len(OUTDOORS))](place)
    if rng.random() < 0.4:
        house(scene.place(rng.normal() * 3, length * rng.uniform(0.9, 1.5), 0, rng.normal() * 0.2))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = r.choice([r.uniform(0.2, 1), r.uniform(1, 2), r.uniform(2, 9)], p=[0.25, 0.55, 0.2])
        eye = np.array([r.uniform(-1, 1) * half_width, r.uniform(-0.4, 0.5) * length, level])
        return eye, eye + np.array([r.normal() * 5, 9, r.normal() * 1.4 - 0.12 * level])

    return Stage(scene, _daylight(rng), look, 1.1, "street")


def _open_ground(rng: np.random.Generator, scene: Scene) -> Stage:
    """A yard, a park, a hall without walls in sight."""
    reach = rng.uniform(3, 18)
    _ground(rng, scene)
    for _ in range(int(rng.integers(0, 6))):  # hills
        angle, far, size = rng.uniform(0, 6.3), rng.uniform(1.2, 5) * reach, rng.uniform(0.5, 2.5) * reach
        hill = scene.place(far * np.cos(angle), far * np.sin(angle), 0)
        hill.ball(
            (0, 0, -size * 0.1),
            (size, size * rng.uniform(0.5, 1), size * rng.uniform(0.1, 0.5)),
            scene.material("floor"),
        )
    things = FURNITURE if rng.random() < 0.2 else OUTDOORS
    for _ in range(int(rng.integers(4, 24))):
        place = scene.place(
            rng.normal() * reach * 0.6, rng.normal() * reach * 0.6, 0, rng.uniform(0, 6.3), rng.uniform(0.7, 1.5)
        )
        things[rng.integers(len(things))](place)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            angle = rng.uniform(0, 6.3)
            (house if rng.random() < 0.6 else tree)(
                scene.place(1.6 * reach * np.cos(angle), 1.6 * reach * np.sin(angle), 0, angle)
            )

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = r.choice([r.uniform(0.15, 0.8), r.uniform(0.8, 2), r.uniform(2, 8)], p=[0.25, 0.5, 0.25])
        eye = np.append(r.normal(size=2) * reach * 0.5, level)
        aim = np.append(r.normal(size=2) * reach * 0.3, r.uniform(-0.2, 1.5))
        return eye, aim

    return Stage(scene, _daylight(rng), look, 0.06 * reach + 0.3, "open")


def _shell(scene: Scene, width: float, depth: float, height: float, doors: int | None = None) -> bool:
    """Floor, walls with doors and windows, ceiling, and what is seen through the openings. True if daylight enters."""
    rng, place, thick = scene.rng, scene.place(), 0.06
    wall = scene.material("plain" if rng.random() < 0.7 else "any", (0.8, 3))
    floor, ceiling = scene.material("floor", (0.5, 2.5)), scene.material("plain", (1, 3))
    sunny = rng.random() < 0.45
    outside = 0.0 if sunny else rng.uniform(1.5, 4)
    place.box((0, 0, -0.05), (width / 2 + outside + 0.1, depth / 2 + outside + 0.1, 0.05), floor, shell=True)
    if rng.random() < 0.93:
        place.box((0, 0, height + 0.05), (width / 2 + outside, depth / 2 + outside, 0.05), ceiling, shell=True)
    if sunny:
        _ground(rng, scene, -0.12)
        for _ in range(4):
            angle = rng.uniform(0, 6.3)
            OUTDOORS[rng.integers(len(OUTDOORS))](
                scene.place((width + 4) * np.cos(angle), (depth + 4) * np.sin(angle), -0.1, angle)
            )
    else:
        back = scene.material("plain", (0.8, 3))
        for side in (-1, 1):
            place.box(
                (side * (width / 2 + outside), 0, height / 2), (0.05, depth / 2 + outside, height / 2), back, shell=True
            )
            place.box(
                (0, side * (depth / 2 + outside), height / 2), (width / 2 + outside, 0.05, height / 2), back, shell=True
            )
    skirting = scene.some_material() if rng.random() < 0.5 else None
    for k, (length, distance) in enumerate(((width, depth), (depth, width), (width, depth), (depth, width))):
        face = place.at(0, 0, 0, k * np.pi / 2).at(0, distance / 2 + thick, 0)
        own = wall if rng.random() < 0.75 else scene.material("any" if rng.random() < 0.6 else "plain", (0.8, 3))
        count = int(rng.integers(0, 3)) if doors is None else (doors if length > 4 else 1) // 2
        _wall(face, length, height, own, count, sunny, skirting)
    return sunny


def _wall(
    p: Place, length: float, height: float, wall: Material, count: int, sunny: bool, skirting: Material | None
) -> None:
    """A wall along x with openings from left to right, some of them filled."""
    rng, thick = p.scene.rng, 0.06
    frame = p.scene.some_material()
    x = -length / 2
    for k in range(count):
        stop = -length / 2 + (k + 1) * length / count
        if stop - x < 1.4:
            break
        opening = rng.uniform(0.6, min(2.2, stop - x - 0.4))
        left = x + rng.uniform(0.15, stop - x - opening - 0.15)
        low = 0.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.2)
        high = min(height - 0.1, rng.uniform(1.9, 2.4))
        p.box(((x + left) / 2, 0, height / 2), ((left - x) / 2, thick, height / 2), wall, shell=True)
        middle, half = left + opening / 2, opening / 2
        p.box((middle, 0, (high + height) / 2), (half, thick, (height - high) / 2), wall, shell=True)
        if low > 0:
            p.box((middle, 0, low / 2), (half, thick, low / 2), wall, shell=True)
        for side in (-1, 1):
            p.box((middle + side * half, -thick, (low + high) / 2), (0.04, 0.02, (high - low) / 2 + 0.04), frame)
        p.box((middle, -thick, high), (half, 0.02, 0.04), frame)
        if rng.random() < 0.5:  # closed: a door leaf, a blind, a picture of the outside, bars
            leaf = p.scene.material(rng.choice(["plain", "any", "picture"]), (0.5, 2.5))
            p.box((middle, 0, (low + high) / 2), (half, 0.02, (high - low) / 2), leaf)
            p.ball((middle + half * 0.8, -0.06, (low + high) / 2), (0.03, 0.03, 0.03), frame)
        elif rng.random() < 0.5:
            p.box((middle, 0, (low + high) / 2), (0.02, 0.02, (high - low) / 2), frame)
            p.box((middle, 0, low + 0.6 * (high - low)), (half, 0.02, 0.02), frame)
        elif low == 0 and rng.random() < 0.5:  # an open leaf
            door = p.at(left, -thick, 0, -rng.uniform(0.5, 2.6))
            door.box((half, 0, high / 2), (half, 0.02, high / 2), p.scene.some_material())
        if rng.random() < 0.25:
            for side in (-1, 1):
                curtain = p.scene.some_material()
                for i in range(4):
                    p.tube((middle + side * (half + 0.06 * i), -0.14, high / 2 + 0.05), (0.04, 0.03, high / 2), curtain)
        x = left + opening
    p.box(((x + length / 2) / 2, 0, height / 2), ((length / 2 - x) / 2, thick, height / 2), wall, shell=True)
    if skirting is not None and count == 0:
        p.box((0, -thick, 0.05), (length / 2, 0.012, 0.05), skirting)
    for _ in range(int(rng.integers(0, 4))):  # pictures, boards, switches, radiators
        kind, where = rng.random(), rng.uniform(-0.42, 0.42) * length
        if kind < 0.55:
            half, z = rng.uniform(0.12, 0.6, 2), rng.uniform(1.1, 1.8)
            p.box((where, -thick, z), (half[0] + 0.03, 0.015, half[1] + 0.03), frame)
            p.box((where, -thick - 0.005, z), (half[0], 0.015, half[1]), p.scene.material("picture", (0.4, 1.2)))
        elif kind < 0.75:
            p.box((where, -thick, 1.1), (0.05, 0.01, 0.05), p.scene.material("plain"))
        elif kind < 0.9:
            board = p.at(where, -thick - 0.1, rng.uniform(0.8, 1.8))
            board.box((0, 0, 0), (0.4, 0.1, 0.015), frame)
            clutter(board.at(0, 0, 0.015), 0.35, 0.07, int(rng.integers(0, 6)), 0.3)
        else:
            for i in range(int(rng.integers(4, 12))):
                p.soft_box(
                    (where + i * 0.08, -thick - 0.06, 0.4),
                    (0.03, 0.04, 0.28),
                    p.scene.material("plain") if i == 0 else frame,
                )


def _furnish(rng: np.random.Generator, scene: Scene, width: float, depth: float, middle: float = 0.4) -> None:
    """One piece of furniture: with its back to a wall, or in the middle of the room."""
    if rng.random() < 1 - middle:
        side = int(rng.integers(4))
        length, distance = (width, depth) if side % 2 == 0 else (depth, width)
        wall = scene.place().at(0, 0, 0, side * np.pi / 2)
        place = wall.at(
            rng.uniform(-0.42, 0.42) * length, distance / 2 - rng.uniform(0.2, 0.55), 0, rng.normal() * 0.06
        )
    else:
        place = scene.place(rng.uniform(-0.35, 0.35) * width, rng.uniform(-0.35, 0.35) * depth, 0, rng.uniform(0, 6.3))
    if rng.random() < 0.15:
        rug = scene.material("any", (0.6, 2))
        place.box((0, 0, 0.006), (rng.uniform(0.4, 1.2), rng.uniform(0.4, 1.0), 0.006), rug)
    if rng.random() < 0.12:
        clutter(place, 0.4, 0.4, int(rng.integers(1, 6)))
    else:
        FURNITURE[rng.integers(len(FURNITURE))](place)


def _hang(rng: np.random.Generator, scene: Scene, width: float, depth: float, height: float, count: int) -> None:
    """Lamps, beams and pipes under the ceiling."""
    for _ in range(count):
        x, y, kind, m = (
            rng.uniform(-0.4, 0.4) * width,
            rng.uniform(-0.4, 0.4) * depth,
            rng.random(),
            scene.some_material(),
        )
        place = scene.place(x, y, height)
        if kind < 0.5:
            drop, r = rng.uniform(0.1, 1.0), rng.uniform(0.08, 0.3)
            place.tube((0, 0, -drop / 2), (0.006, 0.006, drop / 2), m)
            place.tube((0, 0, -drop), (r, r, r * 0.5), scene.material("plain"), rng.uniform(0.2, 1), is_open=True)
        elif kind < 0.75:
            place.at(0, -y, 0).box((0, 0, -0.1), (0.07, depth / 2, 0.1), m)
        else:
            place.box((0, 0, -0.03), (rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6), 0.03), m)


def _ground(rng: np.random.Generator, scene: Scene, z: float = 0.0) -> None:
    scene.place().box((0, 0, z - 0.5), (120, 120, 0.5), scene.material("floor", (0.6, 5)), shell=True)


def _indoor_light(rng: np.random.Generator, width: float, depth: float, height: float, sunny: bool) -> Light:
    strength = rng.uniform(0.3, 1.0)
    lamps = []
    for _ in range(int(rng.integers(1, 3))):
        colour = strength * np.array([1, rng.uniform(0.8, 1), rng.uniform(0.6, 1)])
        position = (rng.uniform(-0.35, 0.35) * width, rng.uniform(-0.35, 0.35) * depth, height - rng.uniform(0.1, 0.7))
        lamps.append([*position, *colour, rng.choice([0.02, 0.1, 0.3]), rng.uniform(0.6, 1.5) * max(width, height)])
    sky = rng.uniform(1.0, 4.0) if sunny else 0.2
    if sunny and rng.random() < 0.7:
        lamps.append(_sun(rng, rng.uniform(1, 3)))
    ambient = rng.uniform(0.25, 0.8)
    tone = np.array([rng.uniform(0.9, 1.1), 1, rng.uniform(0.85, 1.1)])
    low = ambient * rng.uniform(0.5, 1.0) * tone
    return Light(
        np.array(lamps, np.float32), low.astype(np.float32), (ambient * tone).astype(np.float32),
        *_sky(rng, sky), -1, 0.0, rng.choice([0.0, rng.uniform(0.2, 1.0)], p=[0.25, 0.75]),
    )  # fmt: skip


def _daylight(rng: np.random.Generator, fog: float = 1.0) -> Light:
    overcast = rng.random() < 0.35
    ambient = rng.uniform(0.3, 0.6) * (1.6 if overcast else 1)
    lamps = np.empty((0, 8)) if overcast else np.array([_sun(rng, rng.uniform(0.5, 1.6))])
    high = ambient * np.array([0.9, 0.97, 1.1])
    return Light(
        lamps.astype(np.float32), (high * rng.uniform(0.4, 0.9)).astype(np.float32), high.astype(np.float32),
        *_sky(rng, rng.uniform(0.6, 1.8)), int(rng.integers(-1, 2)), fog / rng.choice([40, 150, 500]),
        rng.choice([0.0, rng.uniform(0.3, 1.5)]),
    )  # fmt: skip


def _sun(rng: np.random.Generator, strength: float) -> list[float]:
    around, up = rng.uniform(0, 6.3), rng.uniform(0.25, 1.4)
    colour = strength * np.array([1, 0.75 + 0.17 * up, 0.5 + 0.3 * up])
    return [
        np.cos(around) * np.cos(up),
        np.sin(around) * np.cos(up),
        np.sin(up),
        *colour,
        rng.choice([0.01, 0.04]),
        0.0,
    ]


def _sky(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    grey = rng.uniform(0.7, 1.0, 3)
    zenith = np.array([0.35, 0.55, 0.95]) if rng.random() < 0.6 else grey * rng.uniform(0.7, 1)
    if rng.random() < 0.1:
        zenith = palette(rng, 1.0)
    return (strength * grey).astype(np.float32), (strength * zenith).astype(np.float32)
