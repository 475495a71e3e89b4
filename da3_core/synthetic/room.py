# SPDX-License-Identifier: Apache-2.0
"""The furnished living room that demos and tests walk through: 5 m by 7 m by 2.6 m, every thing at a fixed place.

World: x from -2.5 to 2.5, y from -3.5 to 3.5, z up from the floor at 0, metres.
"""

from __future__ import annotations

import numpy as np

from da3_core.synthetic.scene import AreaLight, Scene
from da3_core.synthetic.shapes import Box, Cylinder, Ellipsoid, Material, Room, Shape

Point = tuple[float, float, float]

_WOOD = Material("wood", (1.2, 0.6))
_DARK_WOOD = Material("wood:dark", (1.0, 0.5), (0.55, 0.45, 0.42))
_WHITE = Material("paint:white", (0.7, 0.7), (1.1, 1.09, 1.06))
_BLACK = Material("paint:black", (0.5, 0.5), (0.2, 0.2, 0.22))
_BRASS = Material("paint:brass", (0.3, 0.3), (0.95, 0.75, 0.40))


def furnished_room() -> Scene:
    """The room, its furniture, the lamp on the ceiling and the windows in the west wall."""
    shapes = [
        _shell(),
        *_trim(),
        *_windows(),
        *_pictures(),
        *_seating(),
        *_coffee_table(),
        *_bookcase(),
        *_desk(),
        *_sideboard(),
        *_corners(),
    ]
    lamp = AreaLight(
        np.array([0.0, 0.2, 2.54]),
        np.array([[0.6, 0, 0], [0, 0.9, 0]]),
        np.array([0.0, 0, -1]),
        np.array([1.0, 0.92, 0.80]) * 1.35,
    )
    windows = [
        AreaLight(
            np.array([-2.44, y, 1.5]),
            np.array([[0, 0.55, 0], [0, 0, 0.6]]),
            np.array([1.0, 0, 0]),
            np.array([0.86, 0.95, 1.08]) * 2.2,
            samples=2,
        )
        for y in _WINDOW_Y
    ]
    return Scene(tuple(shapes), (lamp, *windows), ambient=np.array([[0.42, 0.38, 0.33], [0.36, 0.37, 0.39]]))


def _box(center: Point, size: Point, *materials: Material, yaw_deg: float = 0.0) -> Box:
    """A box by its full size, turned about z."""
    return Box(np.array(center), np.array(size) / 2, materials, _yaw(yaw_deg))


def _ball(center: Point, size: Point, material: Material, yaw_deg: float = 0.0) -> Ellipsoid:
    return Ellipsoid(np.array(center), np.array(size) / 2, (material,), _yaw(yaw_deg))


def _tube(foot: Point, radius: float, height: float, material: Material) -> Cylinder:
    """An upright cylinder by the middle of its foot."""
    x, y, z = foot
    return Cylinder(np.array([x, y, z + height / 2]), np.array([radius, radius, height / 2]), (material,))


def _yaw(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _table(center: Point, size: Point, top: Material, legs: Material) -> list[Shape]:
    """Four legs and a board; `center` on the floor, `size` over everything."""
    (x, y, _), (width, depth, height) = center, size
    board = _box((x, y, height - 0.02), (width, depth, 0.04), top)
    feet = [
        _box(
            (x + a * (width / 2 - 0.06), y + b * (depth / 2 - 0.06), (height - 0.04) / 2),
            (0.06, 0.06, height - 0.04),
            legs,
        )
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    return [board, *feet]


def _shell() -> Room:
    west = Material("plaster:west", (2.6, 2.6), (0.98, 0.94, 0.86))
    east = Material("brick", (2.6, 1.3))
    south = Material("wallpaper", (2.5, 2.6))
    north = Material("plaster:north", (2.5, 2.6), (0.72, 0.82, 0.88))
    floor, ceiling = Material("planks", (1.8, 1.3)), Material("plaster:ceiling", (2.5, 2.5), (1.08, 1.07, 1.05))
    return Room(np.array([0, 0, 1.3]), np.array([2.5, 3.5, 1.3]), (west, east, south, north, floor, ceiling))


def _trim() -> list[Shape]:
    """Skirting boards, ceiling lamp, door and rug."""
    lamp_rim = _box((0, 0.2, 2.575), (1.3, 1.9, 0.05), _WHITE)
    lamp = _box(
        (0, 0.2, 2.56), (1.2, 1.8, 0.06), Material("plaster:lamp", (1.2, 1.8), (1.0, 0.97, 0.90), emission=1.15)
    )
    door = [
        _box((1.45, -3.475, 1.02), (0.98, 0.05, 2.04), _WHITE),
        _box((1.45, -3.465, 1.0), (0.86, 0.06, 2.0), Material("door", (0.86, 2.0))),
        _ball((1.10, -3.41, 1.0), (0.06, 0.06, 0.06), _BRASS),
    ]
    skirting = [
        _box((-2.49, 0, 0.05), (0.02, 7, 0.1), _WHITE),
        _box((2.49, 0, 0.05), (0.02, 7, 0.1), _DARK_WOOD),
        _box((-0.8, -3.49, 0.05), (3.4, 0.02, 0.1), _WHITE),
        _box((0, 3.49, 0.05), (5, 0.02, 0.1), _WHITE),
    ]
    rug = _box((0.1, 0.1, 0.006), (2.3, 3.0, 0.012), Material("rug", (2.3, 3.0)))
    return [lamp_rim, lamp, *door, *skirting, rug]


_WINDOW_Y = (-1.1, 1.5)


def _windows() -> list[Shape]:
    """Two windows in the west wall with frames, bars, sills and curtains."""
    shapes: list[Shape] = []
    for number, y in enumerate(_WINDOW_Y):
        view = Material(f"outdoors:{number}", (1.1, 1.2), emission=1.05)
        shapes += [_box((-2.49, y, 1.5), (0.04, 1.1, 1.2), view)]
        shapes += [_box((-2.47, y + side * 0.58, 1.5), (0.08, 0.07, 1.3), _WHITE) for side in (-1, 0, 1)]
        shapes += [_box((-2.47, y, z), (0.08, 1.2, 0.07), _WHITE) for z in (0.88, 2.12)]
        shapes += [_box((-2.42, y, 0.83), (0.2, 1.35, 0.04), _WHITE)]
        cloth = Material(f"quilt:curtain{number}", (0.9, 0.9), (0.95, 0.88, 0.80))
        shapes += [
            _tube((-2.36, y + side * (0.72 + 0.08 * fold), 0.3), 0.045, 1.95, cloth)
            for side in (-1, 1)
            for fold in (0, 1)
        ]
    return shapes


def _pictures() -> list[Shape]:
    def on_wall(name: str, center: Point, width: float, height: float) -> Box:
        x_wall = abs(center[0]) > 2.4
        size = (0.04, width, height) if x_wall else (width, 0.04, height)
        return _box(center, size, Material(name, (width, height)))

    return [
        on_wall("painting", (0.35, 3.48, 1.62), 1.15, 0.80),
        on_wall("abstract:a", (2.48, 1.55, 1.60), 0.75, 0.95),
        on_wall("chart", (2.48, 0.55, 1.58), 0.60, 0.80),
        on_wall("abstract:b", (2.48, -0.35, 1.62), 0.75, 0.70),
        on_wall("painting:small", (0.15, -3.48, 1.60), 0.75, 0.55),
        on_wall("abstract:c", (-0.95, -3.48, 1.62), 0.65, 0.85),
        on_wall("chart:calendar", (-2.48, 0.2, 1.55), 0.5, 0.66),
        on_wall("abstract:d", (-2.48, -2.75, 1.5), 0.7, 0.9),
    ]


def _seating() -> list[Shape]:
    """The sofa under the pictures on the east wall, and an armchair that looks at it."""
    cloth = Material("fabric:sofa", (0.8, 0.8), (0.36, 0.54, 0.60))
    sofa = [
        _box((2.02, 0.6, 0.22), (0.86, 2.2, 0.36), cloth),
        _box((2.34, 0.6, 0.60), (0.22, 2.2, 0.46), cloth),
        *(_box((1.95, 0.6 + side * 0.52, 0.45), (0.66, 1.0, 0.14), cloth) for side in (-1, 1)),
        *(_box((2.02, 0.6 + side * 1.18, 0.34), (0.86, 0.18, 0.60), cloth) for side in (-1, 1)),
    ]
    cushions = [
        _ball((2.12, 1.30, 0.68), (0.20, 0.44, 0.40), Material("quilt:a", (0.8, 0.6))),
        _ball((2.12, 0.40, 0.68), (0.20, 0.46, 0.38), Material("abstract:cushion", (0.7, 0.6))),
        _ball((2.10, -0.15, 0.67), (0.20, 0.42, 0.38), Material("quilt:b", (0.6, 0.6), (1.0, 0.9, 0.7))),
    ]
    cover = Material("fabric:chair", (0.6, 0.6), (0.84, 0.56, 0.30))
    turn, at = -38.0, np.array([-1.35, 2.55])

    def part(dx: float, dy: float, z: float, size: Point, material: Material) -> Box:
        x, y = at + _yaw(turn)[:2, :2] @ [dx, dy]
        return _box((x, y, z), size, material, yaw_deg=turn)

    chair = [
        part(0, 0, 0.26, (0.74, 0.74, 0.30), cover),
        part(0, 0.33, 0.62, (0.74, 0.14, 0.56), cover),
        *(part(side * 0.36, 0, 0.40, (0.12, 0.74, 0.46), cover) for side in (-1, 1)),
        part(0, 0.20, 0.56, (0.42, 0.14, 0.38), Material("quilt:chair", (0.42, 0.38))),
    ]
    return [*sofa, *cushions, *chair]


def _coffee_table() -> list[Shape]:
    return [
        *_table((0.15, 0.2, 0), (0.75, 1.25, 0.42), _WOOD, _DARK_WOOD),
        _box((0.15, 0.2, 0.14), (0.66, 1.14, 0.025), _DARK_WOOD),
        _box((0.05, 0.56, 0.435), (0.22, 0.30, 0.03), Material("chart:magazine", (0.22, 0.30)), yaw_deg=20),
        _box((0.06, 0.55, 0.465), (0.20, 0.27, 0.03), Material("abstract:book", (0.20, 0.27)), yaw_deg=-8),
        _ball((0.22, 0.02, 0.50), (0.30, 0.30, 0.16), Material("glaze:bowl", (0.9, 0.25))),
        _ball((0.17, 0.04, 0.57), (0.09, 0.09, 0.09), Material("paint:apple", (0.2, 0.2), (0.85, 0.25, 0.18))),
        _ball((0.26, -0.02, 0.57), (0.09, 0.09, 0.08), Material("paint:pear", (0.2, 0.2), (0.75, 0.78, 0.25))),
        _tube((0.36, -0.26, 0.42), 0.04, 0.10, Material("glaze:mug", (0.25, 0.1))),
        _tube((-0.06, -0.22, 0.42), 0.055, 0.20, Material("glaze:jug", (0.35, 0.2), (0.75, 0.9, 1.0))),
        _box((0.15, 0.36, 0.19), (0.34, 0.24, 0.07), Material("books:low", (0.34, 0.10))),
        _tube((-0.75, -0.75, 0), 0.21, 0.40, Material("wicker:stool", (0.66, 0.4), (1.0, 0.85, 0.7))),
        _ball((0.85, -1.05, 0.12), (0.24, 0.24, 0.24), Material("quilt:ball", (0.38, 0.38))),
    ]


def _bookcase() -> list[Shape]:
    """Open shelves on the north wall: five boards, two sides, a back, four rows of books with vases between."""
    x, y, width, depth, height = -0.95, 3.30, 1.1, 0.32, 2.0
    shapes: list[Shape] = [_box((x, 3.47, height / 2), (width, 0.03, height), _DARK_WOOD)]
    shapes += [_box((x + side * width / 2, y, height / 2), (0.04, depth, height), _WOOD) for side in (-1, 1)]
    shapes += [_box((x, y, 0.06 + 0.48 * row), (width, depth, 0.035), _WOOD) for row in range(5)]
    for row, (left, share) in enumerate(((0.0, 1.0), (0.0, 0.7), (0.3, 0.7), (0.0, 0.75))):
        span = (width - 0.05) * share
        middle = x - (width - 0.05) / 2 + left * (width - 0.05) + span / 2
        books = Material(f"books:{row}", (span, 0.38))
        shapes += [_box((middle, y + 0.03, 0.06 + 0.48 * row + 0.018 + 0.19), (span, 0.20, 0.38), books)]
    shapes += [
        _ball(
            (x + 0.36, y, 0.54 + 0.018 + 0.13), (0.2, 0.2, 0.26), Material("glaze:vase", (0.6, 0.4), (1.0, 0.8, 0.65))
        ),
        _ball((x - 0.37, y, 1.02 + 0.018 + 0.14), (0.26, 0.26, 0.26), Material("globe", (0.82, 0.41))),
        _tube((x + 0.40, y, 1.50 + 0.018), 0.07, 0.24, Material("glaze:tall", (0.44, 0.24))),
        _box((x - 0.15, y, 2.08), (0.5, 0.26, 0.12), Material("wicker:box", (0.5, 0.25))),
    ]
    return shapes


def _desk() -> list[Shape]:
    """A desk with a monitor in the south-west, its chair pulled out."""
    return [
        *_table((-1.75, -2.95, 0), (1.3, 0.72, 0.74), _WOOD, _BLACK),
        _box((-1.75, -3.18, 1.08), (0.62, 0.04, 0.38), Material("screen", (0.62, 0.38), emission=0.95)),
        _box((-1.75, -3.20, 1.08), (0.66, 0.03, 0.42), _BLACK),
        _tube((-1.75, -3.18, 0.75), 0.025, 0.16, _BLACK),
        _tube((-1.75, -3.18, 0.74), 0.12, 0.015, _BLACK),
        _box((-1.78, -2.82, 0.75), (0.44, 0.15, 0.02), Material("chart:keys", (0.44, 0.15), (0.7, 0.7, 0.75))),
        _tube((-1.28, -2.90, 0.74), 0.045, 0.11, Material("glaze:pens", (0.28, 0.11))),
        _box((-2.20, -2.95, 0.80), (0.24, 0.30, 0.12), Material("books:desk", (0.30, 0.12)), yaw_deg=12),
        _box(
            (-1.55, -2.20, 0.46),
            (0.44, 0.44, 0.06),
            Material("fabric:seat", (0.4, 0.4), (0.75, 0.30, 0.26)),
            yaw_deg=15,
        ),
        _box(
            (-1.49, -2.00, 0.76),
            (0.42, 0.04, 0.36),
            Material("fabric:seat", (0.4, 0.4), (0.75, 0.30, 0.26)),
            yaw_deg=15,
        ),
        _tube((-1.55, -2.20, 0.06), 0.03, 0.38, _BLACK),
        _tube((-1.55, -2.20, 0.0), 0.22, 0.05, _BLACK),
    ]


def _sideboard() -> list[Shape]:
    """A low cupboard on the north wall below the painting, with things on it."""
    front = Material("door:sideboard", (0.75, 0.6), (1.15, 1.1, 1.0))
    return [
        _box((0.65, 3.24, 0.36), (1.5, 0.46, 0.60), front),
        _box((0.65, 3.24, 0.67), (1.56, 0.50, 0.03), _WOOD),
        *(_box((0.65 + a * 0.68, 3.24 + b * 0.17, 0.03), (0.05, 0.05, 0.06), _BLACK) for a in (-1, 1) for b in (-1, 1)),
        _tube((0.10, 3.24, 0.685), 0.07, 0.22, Material("glaze:lamp", (0.44, 0.22), (0.6, 0.75, 0.9))),
        _tube((0.10, 3.24, 0.93), 0.14, 0.20, Material("fabric:shade", (0.4, 0.4), (1.25, 1.05, 0.75), emission=1.0)),
        _box((0.72, 3.26, 0.85), (0.42, 0.14, 0.32), Material("books:side", (0.42, 0.34))),
        _ball((1.22, 3.22, 0.80), (0.22, 0.22, 0.24), Material("glaze:pot", (0.7, 0.38), (0.95, 0.7, 0.6))),
    ]


def _corners() -> list[Shape]:
    """Plants, a floor lamp and a basket in the corners."""
    foliage, pot = Material("leaves", (0.9, 0.9)), Material("wicker:pot", (0.6, 0.5), (0.95, 0.8, 0.7))
    return [
        _tube((2.02, 3.0, 0), 0.22, 0.40, pot),
        _tube((2.02, 3.0, 0.4), 0.025, 0.75, _DARK_WOOD),
        _ball((2.02, 3.0, 1.25), (0.80, 0.80, 0.70), foliage),
        _ball((1.90, 2.86, 1.70), (0.56, 0.56, 0.50), Material("leaves:top", (0.8, 0.8), (1.1, 1.1, 0.9))),
        _ball((2.14, 3.06, 0.88), (0.50, 0.54, 0.36), Material("leaves:low", (0.7, 0.7), (0.9, 1.0, 0.9))),
        _tube((2.12, -1.15, 0), 0.15, 0.03, _BLACK),
        _tube((2.12, -1.15, 0.03), 0.018, 1.45, _BRASS),
        _tube((2.12, -1.15, 1.42), 0.21, 0.32, Material("fabric:shade", (0.5, 0.5), (1.25, 1.08, 0.80), emission=1.05)),
        _box((2.14, -2.25, 0.55), (0.62, 1.0, 1.10), Material("door:cabinet", (0.5, 1.1), (1.25, 1.15, 1.0))),
        _ball((2.14, -2.45, 1.27), (0.30, 0.30, 0.34), Material("glaze:urn", (0.94, 0.53), (0.8, 0.9, 1.0))),
        _box((2.16, -2.02, 1.23), (0.22, 0.26, 0.26), Material("abstract:box", (0.26, 0.26)), yaw_deg=25),
        _tube((-2.12, 3.05, 0), 0.26, 0.48, Material("wicker:basket", (0.8, 0.5))),
        _ball((-2.12, 3.05, 0.50), (0.46, 0.46, 0.26), Material("quilt:blanket", (0.7, 0.4), (0.9, 0.95, 1.0))),
        _tube((-2.05, -0.25, 0), 0.17, 0.30, Material("glaze:planter", (1.07, 0.3), (0.85, 0.95, 0.9))),
        _ball((-2.05, -0.25, 0.55), (0.56, 0.60, 0.62), Material("leaves:fern", (0.8, 0.8), (0.95, 1.1, 0.8))),
    ]
