# SPDX-License-Identifier: Apache-2.0
"""Procedural pictures for the faces of a scene: floors, walls, cloth, books, posters, a view out of the window.

A pattern is a function `(rng, n) -> (n, n, 3)` float in [0, 1]. All are rich in small, unlike details, so that feature
matchers find as much to hold on to as in a real room.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np

from da3_core.synthetic.textures import MipTexture, fractal_noise, value_noise

Colour = tuple[float, float, float]


def make_texture(name: str, seed: int, size: int) -> MipTexture:
    """The pattern called `kind` or `kind:variant` at `size` texels, the same for the same name and seed."""
    rng = np.random.default_rng([seed, crc32(name.encode())])
    return MipTexture.from_picture(PATTERNS[name.partition(":")[0]](rng, size))


def _grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of texel centres in [0, 1)."""
    y, x = (np.mgrid[0:n, 0:n].astype(np.float32) + 0.5) / n
    return y, x


def _blend(weight: np.ndarray, low: Colour | np.ndarray, high: Colour | np.ndarray) -> np.ndarray:
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return low + weight[..., None] * (high - low)


def _jitter(rng: np.random.Generator, colour: Colour | np.ndarray, amount: float) -> np.ndarray:
    return np.clip(np.asarray(colour) + rng.normal(size=3) * amount, 0.02, 0.98)


def _scatter(
    rng: np.random.Generator,
    picture: np.ndarray,
    count: int,
    radii: tuple[float, float],
    colours: list[Colour],
    *,
    slender: float = 0.4,
    square: float = 0.0,
    shade: float = 0.15,
    opacity: float = 1.0,
) -> np.ndarray:
    """Lay `count` ellipses (a share `square` of them rectangles) of random size, place and turn over a periodic picture.

    `slender` is the smallest ratio of their sides; `shade` brightens one side and darkens the other.
    """
    n = len(picture)
    reach = int(radii[1] * n) + 1
    offset = np.arange(-reach, reach + 1, dtype=np.float32)
    radius = rng.uniform(*radii, (count, 1, 1)).astype(np.float32) * n
    angle = rng.uniform(0, np.pi, (count, 1, 1)).astype(np.float32)
    along = offset * np.cos(angle) + offset[:, None] * np.sin(angle)
    across = (offset[:, None] * np.cos(angle) - offset * np.sin(angle)) / rng.uniform(slender, 1, (count, 1, 1))
    inside = along**2 + across**2 < radius**2
    straight = rng.random(count) < square
    inside[straight] = np.maximum(abs(along), abs(across))[straight] < 0.7 * radius[straight]
    leaf, row, column = np.nonzero(inside)  # in the order of the leaves: a later one covers an earlier one
    place = rng.integers(0, n, (2, count))
    row, column = (row + place[0, leaf]) % n, (column + place[1, leaf]) % n
    own = np.asarray(colours)[rng.integers(len(colours), size=count)] + rng.normal(0, 0.04, (count, 3))
    lit = 1 + shade * (across / radius)[inside]
    picture = np.array(picture, np.float32)
    picture[row, column] += opacity * (np.clip(own, 0.02, 0.98)[leaf] * lit[:, None] - picture[row, column])
    return picture


def _plaster(rng: np.random.Generator, n: int) -> np.ndarray:
    """Painted, rubbed plaster with specks and hairline cracks."""
    tone = 0.86 + 0.10 * (fractal_noise(rng, n, (3, 3), 6, 0.75) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    cracks = abs(fractal_noise(rng, n, (4, 4), 5, 0.6) - 0.5) < 0.004
    picture[cracks] *= 0.9
    return _scatter(rng, picture, 500, (0.001, 0.006), [(0.74, 0.73, 0.7), (0.95, 0.95, 0.94), (0.82, 0.8, 0.76)])


def _wallpaper(rng: np.random.Generator, n: int) -> np.ndarray:
    """Leaves and blossoms, tone in tone, on a pale green ground."""
    ground = _blend(fractal_noise(rng, n, (4, 4), 5), (0.60, 0.68, 0.63), (0.68, 0.74, 0.68))
    leaves: list[Colour] = [(0.47, 0.58, 0.50), (0.55, 0.64, 0.52), (0.75, 0.78, 0.66), (0.40, 0.50, 0.46)]
    picture = _scatter(rng, ground, 420, (0.01, 0.04), leaves, slender=0.2, shade=0.05)
    return _scatter(
        rng, picture, 160, (0.004, 0.014), [(0.88, 0.80, 0.66), (0.80, 0.58, 0.50), (0.93, 0.90, 0.82)], shade=0.05
    )


def _brick(rng: np.random.Generator, n: int) -> np.ndarray:
    """Running bond, twelve courses of six bricks, no two of one colour."""
    y, x = _grid(n)
    wobble = 0.004 * (fractal_noise(rng, n, (16, 16), 3) - 0.5)
    course = np.floor((y + wobble) * 12).astype(int) % 12
    along = ((x + wobble) * 6 + 0.5 * (course % 2)) % 6
    brick = np.floor(along).astype(int)
    colours = np.clip(np.array([0.60, 0.33, 0.25]) * rng.uniform(0.65, 1.3, (12, 6, 1)), 0, 1) + rng.normal(
        0, 0.03, (12, 6, 3)
    )
    picture = colours[course, brick] * (0.75 + 0.5 * fractal_noise(rng, n, (24, 24), 5, 0.8))[..., None]
    mortar = (((y + wobble) * 12) % 1 < 0.12) | (along % 1 < 0.06)
    return np.where(
        mortar[..., None], _blend(fractal_noise(rng, n, (32, 32), 3), (0.55, 0.53, 0.5), (0.72, 0.7, 0.66)), picture
    )


def _grain(rng: np.random.Generator, n: int, across: int = 24, along: int = 2) -> np.ndarray:
    """Wood fibres along u, in [0, 1]."""
    rings = np.sin(
        2 * np.pi * (3 * fractal_noise(rng, n, (across // 4, along), 3) + 2 * value_noise(rng, n, (across, 2)))
    )
    return 0.35 * (0.5 + 0.5 * rings) + 0.65 * fractal_noise(rng, n, (across * 3, along * 2), 4, 0.7)


def _planks(rng: np.random.Generator, n: int) -> np.ndarray:
    """Oak floor: eight rows of boards of two lengths, each with its own tone and fibres."""
    y, x = _grid(n)
    row = np.floor(y * 8).astype(int)
    along = (x * 2 + rng.random(8)[row]) % 2
    board = np.floor(along).astype(int)
    fibres = np.stack([_grain(rng, n) for _ in range(4)])
    pick = rng.integers(0, 4, (8, 2))[row, board]
    rows, columns = np.mgrid[0:n, 0:n]
    picture = (
        _blend(fibres[pick, rows, columns], (0.42, 0.27, 0.16), (0.74, 0.55, 0.36))
        * rng.uniform(0.72, 1.12, (8, 2, 1))[row, board]
    )
    picture = _scatter(rng, picture, 24, (0.004, 0.012), [(0.24, 0.14, 0.08)], opacity=0.7)
    seam = ((y * 8) % 1 < 0.035) | (along % 1 < 0.006)
    return np.where(seam[..., None], picture * 0.35, picture)


def _wood(rng: np.random.Generator, n: int) -> np.ndarray:
    """One wide veneer with knots, for furniture."""
    picture = _blend(_grain(rng, n, 16), (0.50, 0.36, 0.23), (0.86, 0.70, 0.50))
    return _scatter(rng, picture, 14, (0.006, 0.02), [(0.38, 0.24, 0.14), (0.46, 0.3, 0.18)], opacity=0.8)


def _rug(rng: np.random.Generator, n: int) -> np.ndarray:
    """A woven rug: borders, a medallion, scattered motifs."""
    y, x = _grid(n)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    field: list[Colour] = [(0.78, 0.62, 0.38), (0.16, 0.22, 0.36), (0.85, 0.78, 0.64), (0.36, 0.42, 0.30)]
    picture = _scatter(rng, np.full((n, n, 3), (0.50, 0.13, 0.13)), 420, (0.006, 0.02), field, square=0.4)
    ray = np.hypot(x - 0.5, y - 0.5) * (1 + 0.12 * np.cos(8 * np.arctan2(y - 0.5, x - 0.5)))
    for radius, colour in (
        (0.27, (0.83, 0.74, 0.58)),
        (0.25, (0.13, 0.19, 0.33)),
        (0.17, (0.74, 0.55, 0.30)),
        (0.15, (0.48, 0.12, 0.12)),
        (0.06, (0.86, 0.8, 0.68)),
    ):
        picture[ray < radius] = colour
    picture = np.where((ray < 0.25)[..., None], _scatter(rng, picture, 900, (0.003, 0.010), field, square=0.5), picture)
    for width, colour in ((0.13, (0.15, 0.20, 0.34)), (0.035, (0.80, 0.70, 0.52)), (0.02, (0.44, 0.12, 0.12))):
        picture[edge < width] = colour
    band = (edge > 0.04) & (edge < 0.125)
    picture = np.where(
        band[..., None], _scatter(rng, picture, 700, (0.005, 0.014), [*field, (0.6, 0.2, 0.16)], square=0.6), picture
    )
    weave = 0.9 + 0.05 * np.sin(2 * np.pi * 128 * y) + 0.2 * (fractal_noise(rng, n, (64, 64), 3) - 0.5)
    return picture * weave[..., None]


def _fabric(rng: np.random.Generator, n: int) -> np.ndarray:
    """Coarse grey cloth, meant to be tinted, with stitches and wear."""
    y, x = _grid(n)
    threads = np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y)
    tone = 0.78 + 0.07 * threads + 0.30 * (fractal_noise(rng, n, (4, 4), 7, 0.8) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    return _scatter(rng, picture, 500, (0.003, 0.010), [(0.6, 0.6, 0.6), (0.95, 0.95, 0.95)], slender=0.15, opacity=0.7)


def _quilt(rng: np.random.Generator, n: int) -> np.ndarray:
    """Patchwork for cushions and blankets."""
    y, x = _grid(n)
    patch = np.floor(x * 6).astype(int), np.floor(y * 6).astype(int)
    hues = np.array(
        [(0.78, 0.36, 0.26), (0.90, 0.75, 0.45), (0.25, 0.40, 0.50), (0.92, 0.88, 0.80), (0.42, 0.52, 0.38)]
    )
    picture = hues[rng.integers(0, len(hues), (6, 6))][patch] * (0.9 + 0.2 * fractal_noise(rng, n, (8, 8)))[..., None]
    picture = _scatter(rng, picture, 500, (0.004, 0.014), [tuple(hue) for hue in hues], square=0.3)
    seam = ((x * 6) % 1 < 0.05) | ((y * 6) % 1 < 0.05)
    return np.where(seam[..., None], picture * 0.6, picture)


def _books(rng: np.random.Generator, n: int) -> np.ndarray:
    """One shelf of book spines with bands and titles; the shelf's dark back shows above them."""
    picture = np.full((n, n, 3), 0.10) + 0.04 * fractal_noise(rng, n, (4, 4))[..., None]
    left = 0
    while left < n:
        width = int(rng.uniform(0.02, 0.06) * n)
        top = int(rng.uniform(0.08, 0.34) * n)
        colour = _jitter(
            rng,
            rng.choice(
                [
                    [0.55, 0.16, 0.14],
                    [0.15, 0.28, 0.45],
                    [0.20, 0.38, 0.28],
                    [0.78, 0.68, 0.48],
                    [0.85, 0.82, 0.76],
                    [0.20, 0.18, 0.20],
                    [0.72, 0.42, 0.16],
                ]
            ),
            0.06,
        )
        spine = picture[top:, left : left + width]
        spine[:] = colour * (0.8 + 0.4 * np.sin(np.pi * (np.arange(spine.shape[1]) + 0.5) / width))[None, :, None]
        ink = colour * 0.35 if colour.mean() > 0.5 else np.clip(colour + 0.5, 0, 0.95)
        for _ in range(rng.integers(1, 4)):
            band = int(rng.uniform(0.02, 0.95) * len(spine))
            spine[band : band + rng.integers(2, 7)] = ink
        for line in range(int(0.3 * len(spine)), int(0.7 * len(spine)), 5):
            inset = rng.integers(width // 5, width // 2)
            spine[line : line + 3, inset : width - inset + 1] = ink
        left += width + int(rng.random() < 0.25) * rng.integers(1, 4)
    return picture


def _hills(rng: np.random.Generator, n: int, sky: tuple[Colour, Colour], land: tuple[Colour, Colour]) -> np.ndarray:
    """Clouds over five ranges of hills, the nearest the strongest in colour."""
    y, x = _grid(n)
    picture = _blend(y, *sky)
    cloud = np.clip(fractal_noise(rng, n, (6, 3), 6, 0.6) * 2.4 - 1.1, 0, 1) * np.clip(1.2 - 1.6 * y, 0, 1)
    picture = _blend(cloud, picture, (0.98, 0.97, 0.95))
    for layer in range(5):
        ridge = 0.42 + 0.11 * layer + 0.10 * (fractal_noise(rng, n, (4, 3 + layer), 6)[0] - 0.5)
        shade = _blend(np.float32(layer / 4), *land) * (0.75 + 0.5 * fractal_noise(rng, n, (24, 24), 5, 0.8))[..., None]
        picture = np.where((y > ridge[None, :])[..., None], shade, picture)
    return picture


def _outdoors(rng: np.random.Generator, n: int) -> np.ndarray:
    """The view from a window by day."""
    picture = _hills(rng, n, ((0.52, 0.72, 0.94), (0.90, 0.94, 0.97)), ((0.58, 0.70, 0.72), (0.28, 0.44, 0.20)))
    y, _ = _grid(n)
    trees = _scatter(
        rng, picture, 260, (0.008, 0.03), [(0.20, 0.36, 0.15), (0.32, 0.46, 0.20), (0.42, 0.50, 0.24)], slender=0.7
    )
    return np.where((y > 0.80)[..., None], trees, picture)


def _painting(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed evening landscape."""
    picture = _hills(rng, n, ((0.24, 0.26, 0.46), (0.95, 0.66, 0.40)), ((0.50, 0.38, 0.50), (0.12, 0.14, 0.20)))
    y, x = _grid(n)
    picture[(x - 0.68) ** 2 + (y - 0.36) ** 2 < 0.006] = (1.0, 0.88, 0.62)
    return _frame(picture * (0.9 + 0.2 * fractal_noise(rng, n, (64, 64), 3))[..., None], (0.30, 0.20, 0.12))


_HUES: list[list[Colour]] = [
    [
        (0.93, 0.89, 0.80),
        (0.80, 0.28, 0.18),
        (0.12, 0.20, 0.32),
        (0.90, 0.66, 0.24),
        (0.32, 0.50, 0.52),
        (0.55, 0.14, 0.20),
    ],
    [
        (0.86, 0.90, 0.90),
        (0.10, 0.36, 0.46),
        (0.93, 0.56, 0.36),
        (0.20, 0.20, 0.24),
        (0.60, 0.74, 0.62),
        (0.95, 0.80, 0.48),
    ],
    [
        (0.95, 0.86, 0.76),
        (0.42, 0.24, 0.36),
        (0.22, 0.40, 0.34),
        (0.86, 0.48, 0.30),
        (0.16, 0.16, 0.28),
        (0.72, 0.70, 0.40),
    ],
]


def _abstract(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed print of overlapping discs and squares."""
    ground, *palette = (_jitter(rng, hue, 0.07) for hue in _HUES[rng.integers(len(_HUES))])
    picture = _blend(fractal_noise(rng, n, (3, 3), 6), ground * 0.85, ground)
    picture = _scatter(rng, picture, 40, (0.04, 0.16), palette, square=0.5, shade=0.3)
    return _frame(_scatter(rng, picture, 140, (0.006, 0.03), palette, square=0.4, slender=0.1), (0.08, 0.08, 0.09))


def _chart(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed sheet: headline, two columns of print, a picture."""
    picture = np.full((n, n, 3), (0.93, 0.91, 0.86)) * (0.96 + 0.06 * fractal_noise(rng, n, (8, 8)))[..., None]
    unit = n // 64
    for top, bottom, step, size in ((7, 14, 7, 5), (17, 58, 2, 1)):
        for row in range(top * unit, bottom * unit, step * unit):
            column = 8 * unit
            while column < 56 * unit:
                width = int(rng.integers(1, 6)) * unit * (3 if size > 1 else 1) // 2
                if not (30 * unit < column < 33 * unit and size == 1):
                    picture[row : row + size * unit, column : min(column + width, 56 * unit)] = 0.12
                column += width + unit
    inset = slice(26 * unit, 44 * unit), slice(33 * unit, 56 * unit)
    picture[inset] = _scatter(rng, picture, 500, (0.01, 0.05), [(0.7, 0.2, 0.15), (0.2, 0.35, 0.5), (0.85, 0.7, 0.3)])[
        inset
    ]
    return _frame(picture, (0.45, 0.33, 0.20))


def _frame(picture: np.ndarray, colour: Colour) -> np.ndarray:
    """A picture in a white mount and a wooden frame."""
    y, x = _grid(len(picture))
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))[..., None]
    return np.where(edge < 0.035, np.asarray(colour) * (1 + 8 * edge), np.where(edge < 0.09, 0.94, picture))


def _leaves(rng: np.random.Generator, n: int) -> np.ndarray:
    """Dense foliage."""
    greens: list[Colour] = [
        (0.16, 0.34, 0.14),
        (0.26, 0.48, 0.18),
        (0.38, 0.58, 0.24),
        (0.10, 0.22, 0.10),
        (0.5, 0.64, 0.3),
    ]
    return _scatter(rng, np.full((n, n, 3), (0.06, 0.12, 0.06)), 900, (0.012, 0.04), greens, slender=0.25, shade=0.5)


def _wicker(rng: np.random.Generator, n: int) -> np.ndarray:
    """Basket weave."""
    y, x = _grid(n)
    over = (np.floor(x * 16) + np.floor(y * 16)) % 2
    bulge = np.where(over > 0, abs(np.sin(16 * np.pi * x)), abs(np.sin(16 * np.pi * y)))
    cane = rng.uniform(0.7, 1.2, (16, 16, 1))[np.floor(y * 16).astype(int), np.floor(x * 16).astype(int)]
    return _blend(bulge * (0.7 + 0.3 * fractal_noise(rng, n, (32, 32))), (0.28, 0.18, 0.10), (0.78, 0.60, 0.38)) * cane


def _globe(rng: np.random.Generator, n: int) -> np.ndarray:
    """Oceans, continents and a grid of meridians."""
    y, x = _grid(n)
    height = fractal_noise(rng, n, (3, 4), 7, 0.6) - 0.52
    sea = _blend(np.clip(height * 3 + 1, 0, 1), (0.10, 0.24, 0.48), (0.42, 0.66, 0.80))
    land = _blend(np.clip(height * 4, 0, 1), (0.72, 0.74, 0.46), (0.62, 0.42, 0.26))
    picture = np.where((height > 0)[..., None], land, sea)
    lines = ((x * 12) % 1 < 0.03) | ((y * 8) % 1 < 0.02)
    return np.where(lines[..., None], picture * 0.6, picture)


def _screen(rng: np.random.Generator, n: int) -> np.ndarray:
    """A monitor with lines of coloured code."""
    picture = np.full((n, n, 3), (0.09, 0.10, 0.13))
    inks = [(0.80, 0.82, 0.85), (0.42, 0.68, 0.90), (0.86, 0.60, 0.36), (0.55, 0.78, 0.45), (0.76, 0.50, 0.78)]
    for row in range(n // 24, n - n // 24, n // 28):
        column = n // 24 + int(rng.integers(0, 5)) * n // 20
        while column < n * rng.uniform(0.3, 0.95):
            width = int(rng.integers(n // 64, n // 10))
            picture[row : row + n // 56, column : column + width] = inks[rng.integers(len(inks))]
            column += width + n // 64
    return picture


def _door(rng: np.random.Generator, n: int) -> np.ndarray:
    """A panelled door."""
    y, x = _grid(n)
    picture = _blend(np.ascontiguousarray(_grain(rng, n, 20).T), (0.44, 0.28, 0.17), (0.66, 0.46, 0.29))
    inset = np.full((n, n), -1.0, np.float32)
    for left in (0.12, 0.55):
        for top, bottom in ((0.07, 0.30), (0.37, 0.60), (0.67, 0.93)):
            inset = np.maximum(
                inset, np.minimum(np.minimum(x - left, left + 0.33 - x), np.minimum(y - top, bottom - y))
            )
    groove = (inset > 0) & (inset < 0.02)
    return picture * np.where(groove, 0.5 + 20 * inset, np.where(inset > 0.02, 1.08, 1.0))[..., None]


def _paint(rng: np.random.Generator, n: int) -> np.ndarray:
    """Varnished grey, meant to be tinted, with scratches and dents."""
    tone = 0.82 + 0.14 * (fractal_noise(rng, n, (4, 4), 7, 0.8) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    return _scatter(rng, picture, 160, (0.002, 0.02), [(0.6, 0.6, 0.6), (0.95, 0.95, 0.95)], slender=0.05, opacity=0.5)


def _glaze(rng: np.random.Generator, n: int) -> np.ndarray:
    """Painted pottery: bands and brush spots on white, meant to be tinted."""
    y, x = _grid(n)
    picture = np.full((n, n, 3), 0.9) * (0.92 + 0.12 * fractal_noise(rng, n, (6, 6)))[..., None]
    inks = _HUES[rng.integers(len(_HUES))][1:5]
    picture = _scatter(rng, picture, 160, (0.01, 0.03), inks, slender=0.3)
    for _ in range(4):
        top, ink = rng.uniform(0.05, 0.9), inks[rng.integers(4)]
        picture[abs(y - top - 0.012 * np.sin(2 * np.pi * 12 * x)) < rng.uniform(0.01, 0.03)] = ink
    return picture


PATTERNS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "abstract": _abstract,
    "books": _books,
    "brick": _brick,
    "chart": _chart,
    "door": _door,
    "fabric": _fabric,
    "glaze": _glaze,
    "globe": _globe,
    "leaves": _leaves,
    "outdoors": _outdoors,
    "paint": _paint,
    "painting": _painting,
    "planks": _planks,
    "plaster": _plaster,
    "quilt": _quilt,
    "rug": _rug,
    "screen": _screen,
    "wallpaper": _wallpaper,
    "wicker": _wicker,
    "wood": _wood,
}
