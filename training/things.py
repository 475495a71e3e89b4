# SPDX-License-Identifier: Apache-2.0
"""Things that stand in rooms, on tables and in streets, each made of a few solids with random proportions.

A thing stands at the origin of its place, which is the middle of its foot; its back looks to +y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.builder import Place, any_turn, turn_x, turn_y

Thing = Callable[[Place], None]


def cupboard(p: Place) -> None:
    """A closed body with doors and handles, perhaps with something on it."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, h = u(0.25, 0.9), u(0.18, 0.35), u(0.25, 1.1)
    p.box((0, 0, h), (w, d, h), m)
    front, columns, rows = p.scene.some_material() if u() < 0.4 else m, int(u(1, 4)), int(u(1, 5))
    for i in range(columns):
        for k in range(rows):
            x, z = w * (2 * (i + 0.5) / columns - 1), 2 * h * (k + 0.5) / rows
            p.box((x, -d - 0.008, z), (w / columns - 0.012, 0.008, h / rows - 0.012), front)
            p.box((x + u(-0.5, 0.5) * w / columns, -d - 0.03, z), (0.04, 0.012, 0.008), m)
    if u() < 0.6:
        clutter(p.at(0, 0, 2 * h), w * 0.8, d * 0.6, int(u(1, 5)))


def table(p: Place) -> None:
    """A plate on legs or one foot, laid with things, perhaps with chairs."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, h, thick = u(0.35, 1.0), u(0.25, 0.5), u(0.35, 0.8), u(0.012, 0.04)
    if u() < 0.3:
        p.tube((0, 0, h), (w, w if u() < 0.5 else d, thick), m)
        p.tube((0, 0, h / 2), (0.05, 0.05, h / 2), m, u(0.5, 1.5))
        p.tube((0, 0, 0.02), (w * 0.5, w * 0.5, 0.02), m)
    else:
        p.box((0, 0, h), (w, d, thick), m)
        leg, t = p.scene.some_material(), u(0.015, 0.04)
        for x in (-w + 0.05, w - 0.05):
            for y in (-d + 0.05, d - 0.05):
                (p.tube if u() < 0.5 else p.box)((x, y, h / 2), (t, t, h / 2), leg)
    clutter(p.at(0, 0, h + thick), w * 0.8, d * 0.7, int(u(0, 8)))
    for side in (-1, 1):
        if u() < 0.4:
            chair(p.at(u(-0.5, 0.5) * w, side * (d + u(0, 0.3)), 0, 0 if side > 0 else np.pi))


def chair(p: Place) -> None:
    """A seat, legs, a back of slats or one piece."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, h, back = u(0.18, 0.26), u(0.38, 0.5), u(0.3, 0.6)
    p.soft_box((0, 0, h), (w, w, 0.03), p.scene.some_material())
    for x in (-w + 0.02, w - 0.02):
        for y in (-w + 0.02, w - 0.02):
            p.box((x, y, h / 2), (0.015, 0.015, h / 2), m)
        p.box((x, w, h + back / 2), (0.015, 0.015, back / 2), m)
    if u() < 0.5:
        p.box((0, w, h + back * 0.75), (w, 0.012, back * 0.25), m)
    else:
        for i in range(int(u(2, 6))):
            p.box((0, w, h + back * (0.2 + 0.16 * i)), (w, 0.01, 0.02), m)


def sofa(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, h, arm = u(0.35, 1.1), u(0.35, 0.5), u(0.18, 0.25), u(0.06, 0.14)
    p.soft_box((0, 0, h), (w, d, h), m, 0.3)
    p.soft_box((0, d - 0.1, 2 * h), (w, 0.12, u(0.35, 0.5)), m, 0.7)
    for side in (-1, 1):
        p.soft_box((side * (w + arm), 0, h * 1.4), (arm, d, h * 1.4), m, 0.6)
    for _ in range(int(u(0, 4))):
        cushion = p.at(u(-0.8, 0.8) * w, d - 0.32, 2 * h + 0.16).turned(turn_x(u(-0.5, 0)) @ turn_y(u(-0.4, 0.4)))
        cushion.soft_box((0, 0, 0), (0.2, 0.07, 0.18), p.scene.some_material(), 0.9)


def bed(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, h = u(0.45, 0.95), 1.0, u(0.15, 0.3)
    p.box((0, 0, h), (w, d, h), m)
    p.soft_box((0, -0.15, 2 * h + 0.06), (w * 1.02, d * 0.85, 0.1), p.scene.some_material(), 0.8)
    p.box((0, d, 2 * h), (w, 0.03, u(0.3, 0.6)), m)
    for x in (-0.5, 0.5):
        p.soft_box((x * w, d - 0.3, 2 * h + 0.15), (w * 0.4, 0.2, 0.08), p.scene.some_material(), 0.9)


def shelf(p: Place) -> None:
    """Boards with books, boxes and bottles."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, gap, count = u(0.25, 0.8), u(0.1, 0.2), u(0.25, 0.42), int(u(2, 6))
    for i in range(count + 1):
        p.box((0, 0, 0.05 + i * gap), (w, d, 0.012), m)
    for side in (-1, 1):
        p.box((side * w, 0, count * gap / 2 + 0.03), (0.012, d, count * gap / 2 + 0.04), m)
    if u() < 0.6:
        p.box((0, d, count * gap / 2), (w, 0.006, count * gap / 2), m)
    for i in range(count):
        level = p.at(0, 0, 0.062 + i * gap)
        if u() < 0.5:
            x = -w + 0.04
            while x < w * u(0.3, 1):
                t, h = u(0.012, 0.05), u(0.4, 0.9) * gap / 2
                level.box((x + t, 0, h), (t * 0.95, d * u(0.6, 0.9), h), p.scene.some_material())
                x += 2 * t + (u(0, 0.1) if u() < 0.1 else 0)
        elif u() < 0.8:
            clutter(level, w * 0.8, d * 0.5, int(u(1, 4)), gap * 0.8)


def lamp(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    h, r = u(0.3, 1.5), u(0.08, 0.25)
    p.tube((0, 0, 0.015), (r, r, 0.015), m)
    p.tube((0, 0, h / 2), (0.012, 0.012, h / 2), m)
    p.tube((0, 0, h + r * 0.6), (r, r, r * 0.7), p.scene.material("plain"), u(0.4, 1.0), is_open=True)


def pot_plant(p: Place) -> None:
    u = p.scene.rng.uniform
    r, h = u(0.08, 0.2), u(0.08, 0.2)
    p.tube((0, 0, h), (r, r, h), p.scene.some_material(), u(1.0, 1.3), is_open=True)
    size, start = u(0.3, 1.2), u(0, 3)
    for k in range(int(u(2, 4))):
        p.card((0, 0, 2 * h + size / 2 - 0.03), size * u(0.6, 1), size, start + k * 1.1)
    if u() < 0.3:
        for _ in range(int(u(2, 7))):
            q = u(0.05, 0.2)
            p.ball(
                (u(-1, 1) * size / 3, u(-1, 1) * size / 3, 2 * h + u(0.2, 1) * size), (q, q, q), p.scene.material("any")
            )


def person(p: Place) -> None:
    """A rough figure: legs, trunk, arms, head."""
    u, s = p.scene.rng.uniform, p.scene
    trousers, shirt, skin, k = s.some_material(), s.material("any"), s.material("plain"), u(0.85, 1.1)
    stride = u(0, 0.25)
    for side in (-1, 1):
        leg = p.at(side * 0.09 * k, side * stride / 2, 0)
        leg.tube((0, 0, 0.42 * k), (0.08 * k, 0.09 * k, 0.42 * k), trousers, 1.3)
        arm = p.at(side * 0.24 * k, 0, 1.4 * k).turned(turn_x(u(-0.8, 0.8)))
        arm.soft_box((0, 0, -0.28 * k), (0.05 * k, 0.05 * k, 0.3 * k), shirt, 1.0)
    p.soft_box((0, 0, 1.12 * k), (0.21 * k, 0.13 * k, 0.33 * k), shirt, 0.9)
    p.tube((0, 0, 1.47 * k), (0.05 * k, 0.05 * k, 0.06 * k), skin)
    p.ball((0, 0, 1.62 * k), (0.09 * k, 0.11 * k, 0.13 * k), skin)
    if u() < 0.7:
        p.ball((0, 0.015, 1.66 * k), (0.1 * k, 0.12 * k, 0.12 * k), s.material("any"))


def animal(p: Place) -> None:
    """Four legs, a body, a head with ears."""
    m, k = p.scene.material("any"), p.scene.rng.uniform(0.4, 1.2)
    for x in (-0.25, 0.25):
        for y in (-0.09, 0.09):
            p.tube((x * k, y * k, 0.17 * k), (0.035 * k, 0.035 * k, 0.17 * k), m, 1.2)
    p.ball((0, 0, 0.42 * k), (0.38 * k, 0.15 * k, 0.16 * k), m)
    p.ball((0.42 * k, 0, 0.58 * k), (0.14 * k, 0.11 * k, 0.12 * k), m)
    for y in (-0.06, 0.06):
        p.tube((0.4 * k, y * k, 0.72 * k), (0.04 * k, 0.03 * k, 0.06 * k), m, 0.1)


def stack(p: Place) -> None:
    """Parcels one on another."""
    u, z, size = p.scene.rng.uniform, 0.0, p.scene.rng.uniform(0.12, 0.35)
    for _ in range(int(u(1, 5))):
        half = size * np.array([u(0.6, 1.2), u(0.6, 1.2), u(0.3, 1)])
        p.box((u(-0.05, 0.05), u(-0.05, 0.05), z + half[2]), half, p.scene.some_material(), u(-0.4, 0.4))
        z, size = z + 2 * half[2], size * u(0.7, 1)


def barrel(p: Place) -> None:
    u = p.scene.rng.uniform
    r, h = u(0.1, 0.35), u(0.15, 0.6)
    p.tube((0, 0, h), (r, r, h), p.scene.some_material(), u(0.7, 1.3), is_open=u() < 0.4)
    for z in (0.3, 1.0, 1.7):
        p.ring((0, 0, z * h), r * 1.06, 0.015, p.scene.some_material())


def ball(p: Place) -> None:
    r = p.scene.rng.uniform(0.08, 0.45)
    p.ball((0, 0, r), (r, r, r * p.scene.rng.uniform(0.6, 1)), p.scene.some_material())


def screen(p: Place) -> None:
    """A monitor on a foot or a low board."""
    u = p.scene.rng.uniform
    w, h = u(0.2, 0.7), u(0.15, 0.4)
    p.box((0, 0, 0.01), (w * 0.4, 0.1, 0.01), p.scene.some_material())
    p.box((0, 0, 0.1), (0.03, 0.02, 0.1), p.scene.some_material())
    p.box((0, 0, 0.15 + h), (w, 0.02, h), p.scene.material("plain"))
    p.box((0, -0.022, 0.15 + h), (w * 0.95, 0.004, h * 0.92), p.scene.material("picture", (0.5, 2)))


def stairs(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, step, rise, count = u(0.4, 1.0), u(0.22, 0.32), u(0.14, 0.2), int(u(3, 12))
    for i in range(count):
        p.box((0, i * step, (i + 1) * rise / 2), (w, step / 2, (i + 1) * rise / 2), m)
    if u() < 0.6:
        for i in range(count):
            p.tube((w, i * step, (i + 1) * rise + 0.45), (0.012, 0.012, 0.45), p.scene.some_material())
        slope = np.arctan2(rise, step)
        rail = p.at(w, (count - 1) * step / 2, (count + 1) * rise / 2 + 0.9).turned(turn_x(slope))
        rail.box((0, 0, 0), (0.025, count * step / 2 / np.cos(slope), 0.025), m)


def rail(p: Place) -> None:
    """A fence or a railing."""
    w = p.scene.rng.uniform(0.6, 3)
    p.card((0, 0, 0.5), 2 * w, p.scene.rng.uniform(0.7, 1.2))


def rack(p: Place) -> None:
    """Poles and beams: a scaffold, a drying rack, a swing."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w, d, h, t = u(0.3, 1), u(0.2, 0.6), u(0.6, 2), u(0.01, 0.04)
    for x in (-w, w):
        for y in (-d, d):
            p.tube((x, y, h / 2), (t, t, h / 2), m)
        p.box((x, 0, h), (t, d, t), m)
    for _ in range(int(u(1, 5))):
        p.box((0, u(-d, d), u(0.3, 1) * h), (w, t, t), m)


FURNITURE: tuple[Thing, ...] = (
    cupboard, table, chair, sofa, bed, shelf, lamp, pot_plant, person, animal, stack, barrel, ball, screen, stairs,
    rack, table, chair, shelf, cupboard, sofa,
)  # fmt: skip


# -- small things -----------------------------------------------------------------------------------------------------


def cup(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.material("plain" if p.scene.rng.random() < 0.6 else "any", (0.05, 0.3))
    r, h = u(0.03, 0.05), u(0.03, 0.07)
    if u() < 0.4:
        p.tube((0, 0, 0.008), (r * 2, r * 2, 0.008), m, 1.2)
    p.tube((0, 0, h + 0.008), (r, r, h), m, u(0.9, 1.4), is_open=True)
    if u() < 0.6:
        p.at(r * 1.2, 0, h).turned(turn_x(np.pi / 2)).ring((0, 0, 0), r * 0.7, 0.006, m)
    if u() < 0.5:
        p.tube((0, 0, h), (r * 0.9, r * 0.9, h * 0.5), p.scene.material("plain"))


def bowl(p: Place) -> None:
    u = p.scene.rng.uniform
    r, h = u(0.06, 0.16), u(0.04, 0.1)
    p.ball((0, 0, h), (r, r, h), p.scene.some_material(), 0.0)
    for _ in range(int(u(0, 5))):
        q = u(0.02, 0.045)
        p.ball((u(-0.5, 0.5) * r, u(-0.5, 0.5) * r, h * 0.8), (q, q, q), p.scene.material("any", (0.1, 0.5)))


def bottle(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    r, h = u(0.025, 0.05), u(0.05, 0.11)
    p.tube((0, 0, h), (r, r, h), m)
    p.tube((0, 0, 2 * h + 0.02), (r, r, 0.02), m, 0.4)
    p.tube((0, 0, 2 * h + 0.06), (r * 0.4, r * 0.4, 0.03), p.scene.some_material())


def book(p: Place) -> None:
    z = 0.0
    for _ in range(int(p.scene.rng.uniform(1, 5))):
        w, d, h = p.scene.rng.uniform(0.06, 0.13), p.scene.rng.uniform(0.08, 0.17), p.scene.rng.uniform(0.006, 0.025)
        p.box((0, 0, z + h), (w, d, h), p.scene.material("any", (0.1, 0.4)), p.scene.rng.normal() * 0.3)
        z += 2 * h


def lump(p: Place) -> None:
    """A stone, a fruit, a toy block, a tin: one solid, lying as it likes."""
    rng = p.scene.rng
    half, m = rng.uniform(0.02, 0.1, 3), p.scene.some_material()
    kind = rng.integers(5)
    if kind == 0:
        p.box((0, 0, half[2]), half, m)
    elif kind == 1:
        p.at(0, 0, float(half.max()) * 0.8).turned(any_turn(rng)).box((0, 0, 0), half, m)
    elif kind == 2:
        p.ball((0, 0, half[2]), half, m)
    elif kind == 3:
        p.tube((0, 0, half[2]), (half[0], half[0], half[2]), m, rng.choice([0.02, 0.5, 1.0]))
    else:
        p.soft_box((0, 0, half[2]), half, m, 0.7)


def toy(p: Place) -> None:
    """Several solids grown together."""
    rng, m = p.scene.rng, p.scene.some_material()
    z = 0.0
    for _ in range(int(rng.integers(2, 6))):
        half = rng.uniform(0.02, 0.07, 3)
        centre = (rng.normal() * 0.03, rng.normal() * 0.03, z + half[2])
        part = p.scene.some_material() if rng.random() < 0.5 else m
        rng.choice([p.box, p.ball, p.tube, p.soft_box])(centre, half, part)  # type: ignore[call-overload]
        z += half[2] * rng.uniform(0.5, 2)


def ring(p: Place) -> None:
    r = p.scene.rng.uniform(0.03, 0.12)
    p.ring((0, 0, r * 0.3), r, r * 0.3, p.scene.some_material())


def small_animal(p: Place) -> None:
    animal(p.at(0, 0, 0, 0, 0.35))


def twig(p: Place) -> None:
    size = p.scene.rng.uniform(0.1, 0.35)
    for k in range(2):
        p.card((0, 0, size / 2), size, size, k * 1.5)


SMALL: tuple[Thing, ...] = (cup, bowl, bottle, book, lump, lump, toy, ring, small_animal, twig, cup, book)


def clutter(p: Place, half_width: float, half_depth: float, count: int, room_m: float = 1.0) -> None:
    """Small things spread over a rectangle."""
    rng = p.scene.rng
    for _ in range(count):
        place = p.at(
            rng.uniform(-1, 1) * half_width, rng.uniform(-1, 1) * half_depth, 0, rng.uniform(0, 6.3),
            min(rng.uniform(0.7, 1.4), room_m * 2.5),
        )  # fmt: skip
        if room_m > 0.5 and rng.random() < 0.12:
            (lamp if rng.random() < 0.5 else screen)(place.at(0, 0, 0, 0, 0.6))
        else:
            SMALL[rng.integers(len(SMALL))](place)


# -- things outdoors --------------------------------------------------------------------------------------------------


def tree(p: Place) -> None:
    u = p.scene.rng.uniform
    h, r, bark, leaf = u(0.8, 3.5), u(0.05, 0.25), p.scene.material("floor"), p.scene.material("any", (0.4, 2))
    p.tube((0, 0, h / 2), (r, r, h / 2), bark, u(0.5, 1))
    kind = u()
    if kind < 0.4:
        for _ in range(int(u(2, 7))):
            q = u(0.4, 1.4) * h / 2.5
            p.ball((u(-0.5, 0.5) * h, u(-0.5, 0.5) * h, h + u(-0.2, 0.6) * h), (q, q, q * u(0.6, 1.1)), leaf)
    elif kind < 0.8:
        size = u(0.8, 1.8) * h
        for k in range(int(u(2, 4))):
            p.card((0, 0, h + size * 0.3), size, size, k * 1.05 + u(0, 0.3))
    else:
        for k in range(int(u(1, 4))):
            p.tube((0, 0, h * (0.7 + 0.4 * k)), (h * (0.5 - 0.1 * k),) * 2 + (h * 0.35,), leaf, 0.05)


def bush(p: Place) -> None:
    u, leaf = p.scene.rng.uniform, p.scene.material("any", (0.3, 1))
    for _ in range(int(u(1, 5))):
        q = u(0.2, 0.8)
        p.ball((u(-0.5, 0.5), u(-0.5, 0.5), q * 0.6), (q, q, q * u(0.6, 1)), leaf)
    if u() < 0.5:
        p.card((0, 0, 0.5), 1.2, 1.0, u(0, 3))


def rock(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.material("floor", (0.5, 2))
    for _ in range(int(u(1, 4))):
        half = np.array([u(0.1, 0.9), u(0.1, 0.9), u(0.1, 0.7)])
        part = p.at(u(-0.5, 0.5), u(-0.5, 0.5), float(half[2]) * u(0, 0.6)).turned(any_turn(p.scene.rng))
        (part.ball if u() < 0.6 else part.box)((0, 0, 0), half, m)


def car(p: Place) -> None:
    u, body, dark = p.scene.rng.uniform, p.scene.material("plain"), p.scene.material("plain")
    length, w, h = u(1.7, 2.5), u(0.75, 0.95), u(0.3, 0.5)
    p.soft_box((0, 0, 0.25 + h), (length, w, h), body, 0.5)
    p.soft_box((u(-0.4, 0.2), 0, 0.25 + 2 * h + 0.25), (length * u(0.4, 0.7), w * 0.9, u(0.3, 0.7)), body, 0.6)
    p.soft_box((u(-0.2, 0.1), 0, 0.25 + 2 * h + 0.28), (length * 0.45, w * 0.93, 0.22), dark, 0.4)
    for x in (-0.62, 0.62):
        for side in (-1, 1):
            wheel = p.at(x * length, side * w, 0.33).turned(turn_x(np.pi / 2))
            wheel.tube((0, 0, 0), (0.33, 0.33, 0.12), dark)


def house(p: Place, width: float | None = None) -> None:
    """Walls with windows and a door, a flat or a pitched roof."""
    u = p.scene.rng.uniform
    w, d, h = width or u(1.5, 5), u(1.5, 4), u(1.3, 6)
    wall, frame, glass = p.scene.material("floor", (0.8, 4)), p.scene.material("plain"), p.scene.material("plain")
    p.box((0, 0, h), (w, d, h), wall)
    columns, rows = max(1, int(w * u(0.5, 1))), max(1, int(h * u(0.5, 0.8)))
    for i in range(columns):
        for k in range(rows):
            x, z = w * (2 * (i + 0.5) / columns - 1), 2 * h * (k + 0.6) / rows
            if columns * rows <= 18:
                p.box((x, -d, z), (w / columns * 0.55, 0.04, h / rows * 0.55), frame)
                p.box((x, -d - 0.01, z), (w / columns * 0.48, 0.04, h / rows * 0.48), glass)
    if u() < 0.6:
        p.box((u(-0.5, 0.5) * w, -d, 1.0), (0.5, 0.06, 1.0), frame)
    if u() < 0.5:
        slope = u(0.4, 0.9)
        for side in (-1, 1):
            roof = p.at(0, side * d / 2, 2 * h + np.tan(slope) * d / 2).turned(turn_x(-side * slope))
            roof.box((0, 0, 0), (w + 0.2, d / 2 / np.cos(slope) + 0.15, 0.06), wall)
    if u() < 0.3:
        p.box((0, -d - 0.6, 2.6), (w * 0.6, 0.6, 0.05), frame)


def post(p: Place) -> None:
    """A street lamp, a sign, a bollard, a cone."""
    u, m = p.scene.rng.uniform, p.scene.some_material()
    kind = u()
    if kind < 0.4:
        h = u(2, 5)
        p.tube((0, 0, h / 2), (0.05, 0.05, h / 2), m)
        p.box((0.3, 0, h), (0.35, 0.08, 0.05), m)
    elif kind < 0.7:
        h = u(1.5, 2.6)
        p.tube((0, 0, h / 2), (0.03, 0.03, h / 2), m)
        p.box((0, -0.03, h), (u(0.2, 0.6), 0.01, u(0.2, 0.4)), p.scene.material("picture", (0.5, 1.5)))
    else:
        p.tube((0, 0, u(0.3, 0.5)), (0.15, 0.15, 0.4), m, u(0.1, 1))


def bench(p: Place) -> None:
    u, m = p.scene.rng.uniform, p.scene.some_material()
    w = u(0.5, 1)
    for y in (-0.15, 0, 0.15):
        p.box((0, y, 0.45), (w, 0.06, 0.02), m)
    for z in (0.65, 0.8):
        p.box((0, 0.25, z), (w, 0.02, 0.06), m)
    for side in (-0.8, 0.8):
        p.box((side * w, 0.05, 0.4), (0.03, 0.22, 0.4), m)


OUTDOORS: tuple[Thing, ...] = (
    tree, bush, rock, car, post, bench, person, animal, stack, barrel, rail, ball, tree, car, post, rack, person,
)  # fmt: skip
