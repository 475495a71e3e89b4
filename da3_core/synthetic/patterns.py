# SPDX-License-Identifier: Apache-2.0
"""Materials that repeat: floors, walls, cloth, wood, leaves.

A pattern is a function `(rng, n) -> (n, n, 3)` float in [0, 1], display values. All are rich in small, unlike details,
so that feature matchers find as much to hold on to as in a real room.
"""

from __future__ import annotations

import numpy as np

from da3_core.synthetic.brushes import blend, fractal_noise, grid, mask, palette, scatter, value_noise


def plaster(rng: np.random.Generator, n: int) -> np.ndarray:
    """Painted, rubbed plaster with specks and hairline cracks; near white, to be tinted."""
    tone = 0.86 + 0.10 * (fractal_noise(rng, n, (3, 3), 6, 0.75) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    picture[abs(fractal_noise(rng, n, (4, 4), 5, 0.6) - 0.5) < 0.004] *= 0.9
    return scatter(rng, picture, 500, (0.001, 0.006), palette("bdbab3 f2f2f0 d1ccc2"))


def wallpaper(rng: np.random.Generator, n: int) -> np.ndarray:
    """Leaves and blossoms, tone in tone, on a pale green ground."""
    ground = blend(fractal_noise(rng, n), *palette("99ada1 adbdad"))
    leaves = palette("789480 8ca385 bfc7a8 668075")
    picture = scatter(rng, ground, 700, (0.015, 0.045), leaves, slender=(0.15, 0.4), shade=0.05)
    return scatter(rng, picture, 200, (0.004, 0.012), palette("e0cca8 cc9480 ede6d1"), shade=0.05)


def brick(rng: np.random.Generator, n: int) -> np.ndarray:
    """Running bond, twelve courses of six bricks, no two of one colour."""
    y, x = grid(n)
    wobble = 0.004 * (fractal_noise(rng, n, (16, 16), 3) - 0.5)
    course = np.floor((y + wobble) * 12).astype(int) % 12
    along = ((x + wobble) * 6 + 0.5 * (course % 2)) % 6
    tones = palette("995440") * rng.uniform(0.65, 1.3, (12, 6, 1)) + rng.normal(0, 0.03, (12, 6, 3))
    bricks = tones[course, along.astype(int)] * (0.75 + 0.5 * fractal_noise(rng, n, (24, 24), 5, 0.8))[..., None]
    mortar = blend(fractal_noise(rng, n, (32, 32), 3), *palette("8c8780 b8b3a8"))
    return mask((((y + wobble) * 12) % 1 < 0.12) | (along % 1 < 0.06), mortar, bricks)


def grain(rng: np.random.Generator, n: int, across: int = 24) -> np.ndarray:
    """`(n, n)` wood fibres along u, in [0, 1]."""
    rings = 3 * fractal_noise(rng, n, (across // 4, 2), 3) + 2 * value_noise(rng, n, (across, 2))
    fibres = fractal_noise(rng, n, (across * 3, 4), 4, 0.7)
    return np.asarray(0.35 * (0.5 + 0.5 * np.sin(2 * np.pi * rings)) + 0.65 * fibres)


def planks(rng: np.random.Generator, n: int) -> np.ndarray:
    """Oak floor: eight rows of boards of two lengths, each with its own tone and fibres."""
    y, x = grid(n)
    row = np.floor(y * 8).astype(int)
    along = (x * 2 + rng.random(8)[row]) % 2
    board = row, along.astype(int)
    kinds = np.stack([grain(rng, n) for _ in range(4)])
    rows, columns = np.mgrid[0:n, 0:n]
    fibres = kinds[rng.integers(0, 4, (8, 2))[board], rows, columns]
    picture = blend(fibres, *palette("6b4529 bd8c5c")) * rng.uniform(0.72, 1.12, (8, 2, 1))[board]
    picture = scatter(rng, picture, 24, (0.004, 0.012), palette("3d2414"), opacity=0.7)
    return mask(((y * 8) % 1 < 0.035) | (along % 1 < 0.006), picture * 0.35, picture)


def wood(rng: np.random.Generator, n: int) -> np.ndarray:
    """One wide veneer with knots, for furniture."""
    picture = blend(grain(rng, n, 16), *palette("805c3b dbb380"))
    return scatter(rng, picture, 14, (0.006, 0.02), palette("613d24 754d2e"), opacity=0.8)


def rug(rng: np.random.Generator, n: int) -> np.ndarray:
    """A woven rug: borders, a medallion, scattered motifs."""
    y, x = grid(n)
    motifs = palette("c79e61 29385c d9c7a3 5c6b4d")
    picture = scatter(rng, np.full((n, n, 3), palette("802121")), 420, (0.006, 0.02), motifs, square=0.4)
    star = np.hypot(x - 0.5, y - 0.5) * (1 + 0.12 * np.cos(8 * np.arctan2(y - 0.5, x - 0.5)))
    for radius, colour in zip(
        (0.27, 0.25, 0.17, 0.15, 0.06), palette("d4bd94 213054 bd8c4d 7a1f1f dbccad"), strict=True
    ):
        picture[star < radius] = colour
    picture = mask(star < 0.25, scatter(rng, picture, 900, (0.003, 0.010), motifs, square=0.5), picture)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    for width, colour in zip((0.13, 0.035, 0.02), palette("263357 ccb385 701f1f"), strict=True):
        picture[edge < width] = colour
    band = (edge > 0.04) & (edge < 0.125)
    picture = mask(band, scatter(rng, picture, 700, (0.005, 0.014), motifs, square=0.6), picture)
    weave = 0.9 + 0.05 * np.sin(2 * np.pi * 128 * y) + 0.2 * (fractal_noise(rng, n, (64, 64), 3) - 0.5)
    return np.asarray(picture * weave[..., None])


def fabric(rng: np.random.Generator, n: int) -> np.ndarray:
    """Coarse grey cloth with stitches and wear; to be tinted."""
    y, x = grid(n)
    threads = np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y)
    tone = 0.78 + 0.07 * threads + 0.30 * (fractal_noise(rng, n, (4, 4), 7, 0.8) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    return scatter(rng, picture, 500, (0.003, 0.010), palette("999999 f2f2f2"), slender=(0.15, 1), opacity=0.7)


def quilt(rng: np.random.Generator, n: int) -> np.ndarray:
    """Patchwork for cushions and blankets."""
    y, x = grid(n)
    hues = palette("c75c42 e6bf73 406680 ebe0cc 6b8561")
    patches = hues[rng.integers(0, len(hues), (6, 6))][(x * 6).astype(int), (y * 6).astype(int)]
    picture = patches * (0.9 + 0.2 * fractal_noise(rng, n, (8, 8)))[..., None]
    picture = scatter(rng, picture, 500, (0.004, 0.014), hues, square=0.3)
    return mask(((x * 6) % 1 < 0.05) | ((y * 6) % 1 < 0.05), picture * 0.6, picture)


def leaves(rng: np.random.Generator, n: int) -> np.ndarray:
    """Dense foliage."""
    greens = palette("295724 427a2e 61943d 1a381a 80a34d")
    shadow = np.full((n, n, 3), palette("0f1f0f"))
    return scatter(rng, shadow, 900, (0.012, 0.04), greens, slender=(0.25, 1), shade=0.5)


def wicker(rng: np.random.Generator, n: int) -> np.ndarray:
    """Basket weave."""
    y, x = grid(n)
    cell = (y * 16).astype(int), (x * 16).astype(int)
    bulge = np.where(sum(cell) % 2 > 0, abs(np.sin(16 * np.pi * x)), abs(np.sin(16 * np.pi * y)))
    cane = blend(bulge * (0.7 + 0.3 * fractal_noise(rng, n, (32, 32))), *palette("472e1a c79961"))
    return np.asarray(cane * rng.uniform(0.7, 1.2, (16, 16, 1))[cell])


def paint(rng: np.random.Generator, n: int) -> np.ndarray:
    """Varnished grey with scratches and dents; to be tinted."""
    tone = 0.82 + 0.14 * (fractal_noise(rng, n, (4, 4), 7, 0.8) - 0.5)
    picture = np.repeat(tone[..., None], 3, -1)
    return scatter(rng, picture, 160, (0.002, 0.02), palette("999999 f2f2f2"), slender=(0.05, 1), opacity=0.5)
