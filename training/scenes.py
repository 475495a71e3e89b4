# SPDX-License-Identifier: Apache-2.0
"""Whole scenes: rooms, corridors, table tops, close-ups, streets, squares, facades, single things, open ground; each
with its light and where cameras may stand."""

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
        least_relief: difference of depths against the middle depth that a view must show.
    """

    scene: Scene
    light: Light
    look: Sampler
    step_m: float
    style: str
    least_relief: float = 0.05


def make_stage(rng: np.random.Generator, bank: Bank) -> Stage:
    """A scene of random kind."""
    kinds, shares = zip(*_SHARES.items(), strict=True)
    return rng.choice(kinds, p=shares)(rng, Scene(rng, bank))  # type: ignore[no-any-return]


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


def _facade(rng: np.random.Generator, scene: Scene) -> Stage:
    """A front that fills the image: of a house, a church, a castle, or only a door, a shop, a garage."""
    scale = float(np.exp(rng.uniform(np.log(1.2), np.log(14))))  # half the height of what is looked at
    half_width, half_height = scale * rng.uniform(0.7, 2.2), scale
    _ground(rng, scene)
    wall = scene.material("floor" if rng.random() < 0.7 else "any", (0.15 * scale, 1.2 * scale))
    frame, pane = scene.some_material(), scene.material("plain")
    relief = scale * rng.choice([0.0, rng.uniform(0.02, 0.15)], p=[0.3, 0.7])
    scene.place().box((0, 0.3 * scale, half_height), (half_width, 0.3 * scale, half_height), wall)
    columns, rows = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    width, height = half_width / columns, half_height / rows
    arched = rng.random() < 0.3
    for i in range(columns):
        for k in range(rows):
            if rng.random() < 0.12:
                continue
            x, z = half_width * (2 * (i + 0.5) / columns - 1), 2 * half_height * (k + 0.5) / rows
            scene.place().box((x, 0, z), (0.55 * width, 0.04 * scale, 0.62 * height), frame)
            scene.place().box((x, -0.005 * scale, z), (0.48 * width, 0.04 * scale, 0.55 * height), pane)
            if arched:
                scene.place(x, 0, z + 0.55 * height).ball((0, 0, 0), (0.5 * width, 0.05 * scale, 0.3 * height), frame)
            if k and rng.random() < 0.15:
                sill = (0.6 * width, 0.12 * scale, 0.03 * height)
                scene.place().box((x, -0.12 * scale, z - 0.6 * height), sill, frame)
    if rng.random() < 0.75:
        door = (min(0.55 * half_width, 0.35 * scale), 0.05 * scale, min(0.45 * scale, rng.uniform(0.9, 1.4)))
        spot = rng.uniform(-0.5, 0.5) * half_width
        scene.place().box((spot, -0.03 * scale, door[2]), door, scene.material(rng.choice(["any", "plain"]), (0.3, 2)))
        scene.place().box((spot, -0.2 * scale, 0.05 * scale), (1.4 * door[0], 0.2 * scale, 0.05 * scale), frame)
    if relief:
        for x in np.linspace(-half_width, half_width, int(rng.integers(2, 7))):
            pillar = scene.place(float(x), -relief, 0)
            if rng.random() < 0.5:
                pillar.box((0, 0, half_height), (0.06 * scale, relief, half_height), frame)
            else:
                pillar.tube((0, 0, half_height), (0.07 * scale, 0.07 * scale, half_height), frame, rng.uniform(0.8, 1))
        for z in rng.uniform(0.1, 2, int(rng.integers(0, 4))) * half_height:
            scene.place().box((0, -relief / 2, float(z)), (half_width, relief, 0.04 * scale), frame)
    for side in (-1, 1):
        if rng.random() < 0.5:  # a tower or a neighbour, set back or standing out
            h, w = half_height * rng.uniform(0.5, 1.6), half_width * rng.uniform(0.2, 0.6)
            spot = scene.place(side * (half_width + w), rng.uniform(-0.5, 1.5) * scale, 0)
            own = wall if rng.random() < 0.6 else scene.material("floor", (0.2 * scale, scale))
            if rng.random() < 0.4:
                spot.tube((0, 0, h), (w, w, h), own, rng.uniform(0.8, 1))
            else:
                spot.box((0, 0, h), (w, w, h), own)
    if rng.random() < 0.4:
        slope = rng.uniform(0.3, 1.0)
        roof = scene.place(0, 0.3 * scale, 2 * half_height)
        roof.at(0, 0, 0.2 * scale * slope).box((0, 0, 0), (half_width, 0.35 * scale, 0.2 * scale * slope), frame)
    for _ in range(int(rng.choice([0, rng.integers(1, 5)]))):
        thing = OUTDOORS[rng.integers(len(OUTDOORS))]
        thing(scene.place(rng.uniform(-1, 1) * half_width, -scale * rng.uniform(0.2, 1.5), 0, rng.uniform(0, 6.3)))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        far, aside = scale * r.uniform(0.7, 3.5) + 0.4, np.deg2rad(r.normal() * 18)
        level = r.choice([r.uniform(0.3, 1.9), r.uniform(0.2, 1.2) * half_height])
        aim = np.array([r.normal() * 0.35 * half_width, 0, r.uniform(0.25, 1.5) * half_height])
        return np.array([aim[0] + far * np.sin(aside), -far * np.cos(aside), level]), aim

    return Stage(scene, _daylight(rng, 0.4), look, 0.12 * scale + 0.05, "facade", least_relief=0.015)


def _single_thing(rng: np.random.Generator, scene: Scene) -> Stage:
    """One thing in the middle, seen from the front, before a wall, a room or the sky."""
    indoors = rng.random() < 0.5
    things = (*FURNITURE, *OUTDOORS)
    background = rng.uniform(0.8, 6)
    if indoors:
        size = 3 + background
        windows = _shell(scene, size, size, rng.uniform(2.2, 3.4))
        for _ in range(int(rng.integers(0, 3))):
            _furnish(rng, scene, size, size, middle=0.0)
        lit = _indoor_light(rng, size, size, 2.2, windows)
    else:
        _ground(rng, scene)
        if rng.random() < 0.45:
            wall = scene.material("any", (0.4, 3))
            scene.place(0, background, 0).box((0, 0.2, 1.5), (8, 0.2, rng.uniform(0.6, 3)), wall)
        for _ in range(int(rng.integers(0, 7))):
            x, y = rng.uniform(-12, 12), background + rng.uniform(1, 25)
            OUTDOORS[rng.integers(len(OUTDOORS))](scene.place(x, y, 0, rng.uniform(0, 6.3)))
        lit = _daylight(rng, 0.5)
    enlarged = rng.uniform(0.8, 1.4)
    things[rng.integers(len(things))](scene.place(0, 0, 0, rng.uniform(0, 6.3), enlarged))
    if rng.random() < 0.3:
        clutter(scene.place(0, -0.4, 0, 0, 1.5), 0.6, 0.3, int(rng.integers(1, 5)))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        far, aside = enlarged * r.uniform(0.9, 3.2) + 0.3, np.deg2rad(r.normal() * 25)
        if indoors:
            far = min(far, 1.4 + 0.45 * background)
        eye = np.array([far * np.sin(aside), -far * np.cos(aside), r.uniform(0.3, 1.7)])
        return eye, np.append(r.normal(size=2) * 0.15, enlarged * r.uniform(0.3, 0.9))

    return Stage(scene, lit, look, 0.18, "thing")


def _square(rng: np.random.Generator, scene: Scene) -> Stage:
    """An open place with fronts around it and much sky."""
    reach = rng.uniform(8, 35)
    _ground(rng, scene)
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(5, 16)), endpoint=False):
        if rng.random() < 0.8:
            far = reach * rng.uniform(0.9, 1.5)
            spot = scene.place(far * np.cos(angle), far * np.sin(angle), 0, angle - np.pi / 2, rng.uniform(0.8, 2))
            (house if rng.random() < 0.75 else tree)(spot)
    if rng.random() < 0.5:  # a fountain, a monument
        stone, h = scene.some_material(), rng.uniform(0.5, 4)
        scene.place().tube((0, 0, 0.2), (rng.uniform(0.8, 2.5),) * 2 + (0.2,), stone)
        scene.place().tube((0, 0, h / 2 + 0.4), (0.4, 0.4, h / 2), stone, rng.uniform(0.4, 1))
    for _ in range(int(rng.integers(2, 20))):
        place = scene.place(*(rng.normal(size=2) * 0.4 * reach), 0, rng.uniform(0, 6.3))
        OUTDOORS[rng.integers(len(OUTDOORS))](place)

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        eye = np.append(r.normal(size=2) * 0.35 * reach, r.choice([r.uniform(0.3, 2), r.uniform(2, 7)], p=[0.8, 0.2]))
        angle = r.uniform(0, 6.3)
        return eye, np.array([reach * np.cos(angle), reach * np.sin(angle), r.uniform(0, 0.6) * reach])

    return Stage(scene, _daylight(rng), look, 0.05 * reach + 0.2, "square")


def _close_up(rng: np.random.Generator, scene: Scene) -> Stage:
    """A hand's breadth to an arm's length away: what lies on a table, or a part of a machine, fills the image."""
    reach = rng.uniform(0.1, 0.35)
    size = rng.uniform(2, 5)
    windows = _shell(scene, size, size, rng.uniform(2.2, 3))
    for _ in range(int(rng.integers(0, 4))):
        _furnish(rng, scene, size, size, middle=0.0)
    top = rng.uniform(0.5, 1.0)
    plate = scene.material(rng.choice(["floor", "any", "plain"]), (0.1, 0.8))
    scene.place(yaw=rng.uniform(0, 6.3)).box((0, 0, top - 0.02), (0.6, 0.4, 0.02), plate)
    spot = scene.place(0, 0, top, rng.uniform(0, 6.3), reach * rng.uniform(1.2, 2.4))
    clutter(spot, 0.8, 0.8, int(rng.integers(5, 22)))
    SMALL[rng.integers(len(SMALL))](spot.at(0, 0, 0, 0, rng.uniform(1.5, 4)))

    def look(r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        around, up, far = r.uniform(0, 6.3), np.deg2rad(r.uniform(2, 80)), r.uniform(0.8, 2.2) * reach + 0.06
        out = far * np.array([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)])
        aim = np.array([0, 0, top + 0.1 * reach]) + r.normal(size=3) * np.array([0.3, 0.3, 0.1]) * reach
        return np.array([0, 0, top + 0.015]) + out, aim

    return Stage(scene, _indoor_light(rng, size, size, 2.2, windows), look, 0.3 * reach, "close_up")


_SHARES = {
    _room: 0.28, _corridor: 0.07, _table_top: 0.14, _close_up: 0.06, _street: 0.12, _square: 0.07, _facade: 0.13,
    _single_thing: 0.08, _open_ground: 0.05,
}  # fmt: skip
