# SPDX-License-Identifier: Apache-2.0
"""Pictures that fill one face: posters, books, a view out of the window; and the table of everything by name."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np

from da3_core.synthetic import patterns
from da3_core.synthetic.brushes import blend, fractal_noise, grid, mask, palette, scatter
from da3_core.synthetic.textures import MipTexture

_SCHEMES = (  # a ground, then what lies on it
    "ede3cc cc472e 1f3352 e6a83d 528085 8c2433",
    "dbe6e6 1a5c75 ed8f5c 33333d 99bd9e f2cc7a",
    "f2dbc2 6b3d5c 386657 db7a4d 292947 b8b366",
)


def make_texture(name: str, seed: int, size: int) -> MipTexture:
    """The picture called `kind` or `kind:variant`, `size` texels wide: always the same for a name and a seed."""
    rng = np.random.default_rng([seed, crc32(name.encode())])
    return MipTexture.from_picture(PICTURES[name.partition(":")[0]](rng, size))


def _scheme(rng: np.random.Generator) -> np.ndarray:
    colours = palette(_SCHEMES[rng.integers(len(_SCHEMES))])
    return np.clip(colours + rng.normal(0, 0.02, colours.shape), 0, 1)


def _frame(picture: np.ndarray, colour: str) -> np.ndarray:
    """A picture in a white mount and a wooden frame."""
    y, x = grid(len(picture))
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    mounted = mask(edge < 0.09, np.full_like(picture, 0.94), picture)
    return mask(edge < 0.035, palette(colour) * (1 + 8 * edge[..., None]), mounted)


def _abstract(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed print of overlapping discs and squares."""
    ground, *colours = _scheme(rng)
    picture = blend(fractal_noise(rng, n, (3, 3), 6), ground * 0.85, ground)
    picture = scatter(rng, picture, 40, (0.04, 0.16), np.array(colours), square=0.5, shade=0.2)
    return _frame(scatter(rng, picture, 140, (0.006, 0.03), np.array(colours), square=0.4, slender=(0.1, 1)), "141417")


def _chart(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed sheet: a headline, two columns of print, a picture."""
    sheet = palette("ede8db") * (0.96 + 0.06 * fractal_noise(rng, n, (8, 8)))[..., None]
    unit = n // 64
    lines = [(7, 5, 2, 6, (8, 56))]
    lines += [(row, 1, 1, 5, span) for row in range(17, 58, 2) for span in ((8, 30), (33, 56))]
    for row, height, narrow, wide, (column, end) in lines:
        while column < end:
            width = int(rng.integers(narrow, wide))
            sheet[row * unit : (row + height) * unit, column * unit : min(column + width, end) * unit] = 0.12
            column += width + 1
    inset = slice(26 * unit, 44 * unit), slice(33 * unit, 56 * unit)
    sheet[inset] = scatter(rng, sheet, 500, (0.01, 0.05), palette("b33326 335980 d9b34d"))[inset]
    return _frame(sheet, "735433")


def _hills(rng: np.random.Generator, n: int, sky: str, land: str) -> np.ndarray:
    """Clouds over five ranges of hills, the nearest the strongest in colour."""
    y, _ = grid(n)
    clouds = np.clip(fractal_noise(rng, n, (6, 3), 6, 0.6) * 2.4 - 1.1, 0, 1) * np.clip(1.2 - 1.6 * y, 0, 1)
    picture = blend(clouds, blend(y, *palette(sky)), palette("faf7f2"))
    far, near = palette(land)
    for layer in range(5):
        ridge = 0.42 + 0.11 * layer + 0.10 * (fractal_noise(rng, n, (4, 3 + layer), 6)[0] - 0.5)
        slope = (far + layer / 4 * (near - far)) * (0.75 + 0.5 * fractal_noise(rng, n, (24, 24), 5, 0.8))[..., None]
        picture = mask(y > ridge, slope, picture)
    return picture


def _outdoors(rng: np.random.Generator, n: int) -> np.ndarray:
    """The view from a window by day."""
    picture = _hills(rng, n, "85b8f0 e6f0f7", "94b3b8 477033")
    trees = scatter(rng, picture, 260, (0.008, 0.03), palette("335c26 527533 6b803d"), slender=(0.7, 1))
    return mask(grid(n)[0] > 0.80, trees, picture)


def _painting(rng: np.random.Generator, n: int) -> np.ndarray:
    """A framed evening landscape."""
    y, x = grid(n)
    picture = _hills(rng, n, "3d4275 f2a866", "806180 1f2433")
    picture = mask((x - 0.68) ** 2 + (y - 0.36) ** 2 < 0.006, palette("ffe09e"), picture)
    return _frame(picture * (0.9 + 0.2 * fractal_noise(rng, n, (64, 64), 3))[..., None], "4d331f")


def _books(rng: np.random.Generator, n: int) -> np.ndarray:
    """One shelf of book spines with bands and titles; the shelf's dark back shows above them."""
    picture = np.repeat(0.10 + 0.04 * fractal_noise(rng, n)[..., None], 3, -1)
    covers = palette("8c2924 264773 336147 c7ad7a d9d1c2 332e33 b86b29")
    left = 0
    while left < n:
        width, top = int(rng.uniform(0.02, 0.06) * n), int(rng.uniform(0.08, 0.34) * n)
        cover = np.clip(covers[rng.integers(len(covers))] + rng.normal(0, 0.05, 3), 0.02, 0.95)
        ink = cover * 0.35 if cover.mean() > 0.5 else np.clip(cover + 0.5, 0, 0.95)
        spine = picture[top:, left : left + width]
        roundness = np.sin(np.pi * (np.arange(spine.shape[1]) + 0.5) / width)
        spine[:] = cover * (0.8 + 0.4 * roundness)[:, None]
        for band in rng.uniform(0.02, 0.95, rng.integers(1, 4)) * len(spine):
            spine[int(band) : int(band) + rng.integers(2, 7)] = ink
        for line in range(int(0.3 * len(spine)), int(0.7 * len(spine)), 5):
            inset = rng.integers(width // 5, width // 2)
            spine[line : line + 3, inset : width - inset + 1] = ink
        left += width + int(rng.random() < 0.25) * int(rng.integers(1, 4))
    return picture


def _globe(rng: np.random.Generator, n: int) -> np.ndarray:
    """Oceans, continents and a grid of meridians."""
    y, x = grid(n)
    height = fractal_noise(rng, n, (3, 4), 7, 0.6) - 0.52
    sea = blend(np.clip(height * 3 + 1, 0, 1), *palette("1a3d7a 6ba8cc"))
    land = blend(np.clip(height * 4, 0, 1), *palette("b8bd75 9e6b42"))
    picture = mask(height > 0, land, sea)
    return mask(((x * 12) % 1 < 0.03) | ((y * 8) % 1 < 0.02), picture * 0.6, picture)


def _screen(rng: np.random.Generator, n: int) -> np.ndarray:
    """A monitor with lines of coloured code."""
    picture = np.full((n, n, 3), palette("171a21"))
    inks = palette("ccd1d9 6baee6 db995c 8cc773 c280c7")
    for row in range(n // 24, n - n // 24, n // 28):
        column, end = n // 24 + int(rng.integers(0, 5)) * n // 20, n * rng.uniform(0.4, 0.95)
        while column < end:
            width = int(rng.integers(n // 64, n // 10))
            picture[row : row + n // 56, column : column + width] = inks[rng.integers(len(inks))]
            column += width + n // 64
    return picture


def _door(rng: np.random.Generator, n: int) -> np.ndarray:
    """A panelled door."""
    y, x = grid(n)
    picture = blend(np.ascontiguousarray(patterns.grain(rng, n, 20).T), *palette("70472b a8754a"))
    inset = np.full((n, n), -1.0, np.float32)
    for left in (0.12, 0.55):
        for top, bottom in ((0.07, 0.30), (0.37, 0.60), (0.67, 0.93)):
            sides = np.minimum(np.minimum(x - left, left + 0.33 - x), np.minimum(y - top, bottom - y))
            inset = np.maximum(inset, sides)
    relief = np.select([inset < 0, inset < 0.02], [np.ones_like(inset), 0.5 + 20 * inset], 1.08)
    return np.asarray(picture * relief[..., None])


def _glaze(rng: np.random.Generator, n: int) -> np.ndarray:
    """Painted pottery: bands and brush spots on white; to be tinted."""
    y, x = grid(n)
    picture = np.repeat(0.9 * (0.92 + 0.12 * fractal_noise(rng, n, (6, 6)))[..., None], 3, -1)
    inks = _scheme(rng)[1:]
    picture = scatter(rng, picture, 160, (0.01, 0.03), inks, slender=(0.3, 1))
    for top in rng.uniform(0.05, 0.9, 4):
        wave = abs(y - top - 0.012 * np.sin(2 * np.pi * 12 * x))
        picture = mask(wave < rng.uniform(0.01, 0.03), inks[rng.integers(len(inks))], picture)
    return picture


PICTURES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "abstract": _abstract,
    "books": _books,
    "brick": patterns.brick,
    "chart": _chart,
    "door": _door,
    "fabric": patterns.fabric,
    "glaze": _glaze,
    "globe": _globe,
    "leaves": patterns.leaves,
    "outdoors": _outdoors,
    "paint": patterns.paint,
    "painting": _painting,
    "planks": patterns.planks,
    "plaster": patterns.plaster,
    "quilt": patterns.quilt,
    "rug": patterns.rug,
    "screen": _screen,
    "wallpaper": patterns.wallpaper,
    "wicker": patterns.wicker,
    "wood": patterns.wood,
}
