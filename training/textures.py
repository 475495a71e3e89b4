# SPDX-License-Identifier: Apache-2.0
"""Banks of pictures to cover surfaces with: procedural patterns, crops of free photographs, cut-outs with holes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from da3_core.storage.staging import staged_file
from da3_core.synthetic.brushes import blend, fractal_noise, grid, scatter
from da3_core.synthetic.pictures import PICTURES
from training.raycast import Tiles

SIZE = 256
# Photographs that the scikit-image wheel carries. CC0: brick, grass, gravel.
# Public domain: moon (NASA), retina.
PHOTOGRAPHS = ("brick.png", "grass.png", "gravel.png", "moon.png", "retina.jpg")
HELD_OUT_PHOTOGRAPHS = ("gravel.png", "retina.jpg")
HELD_OUT_PATTERNS = ("wicker", "quilt", "leaves", "wallpaper")
CATEGORIES = ("plain", "floor", "any", "picture", "cutout", "cloud")
_COUNTS = {"plain": 36, "floor": 30, "any": 60, "picture": 16, "cutout": 20, "cloud": 4}


@dataclass(frozen=True, eq=False)
class Bank:
    """Tiles and, for every category, which of them."""

    tiles: Tiles
    categories: dict[str, np.ndarray]


def palette(rng: np.random.Generator, colourful: float = 0.25) -> np.ndarray:
    """A colour as rooms have them: mostly greyish or earthy."""
    colour = rng.random(3)
    if rng.random() > colourful:
        spread = rng.uniform(0.04, 0.3)
        colour = colour * spread + rng.uniform(0.04, 0.96 - spread)
        if rng.random() < 0.5:
            colour = colour * np.array([1.1, 1.0, 0.85])
    return np.clip(colour, 0.03, 0.97)


def noise(rng: np.random.Generator, low: int = 0) -> np.ndarray:
    cells = int(2 ** rng.integers(low, 6))
    stretch = int(2 ** rng.integers(0, 4)) if rng.random() < 0.3 else 1
    return fractal_noise(rng, SIZE, (cells, min(cells * stretch, 128)), int(rng.integers(2, 7)), rng.uniform(0.4, 0.9))


def plain(rng: np.random.Generator) -> np.ndarray:
    """Paint, plaster, plastic: one colour with hardly visible blotches."""
    colour = palette(rng, 0.25)
    other = np.clip(colour + rng.normal(0, 0.05, 3) * rng.choice([0.3, 1, 2]), 0, 1)
    return blend(noise(rng), colour, other)


def clouds(rng: np.random.Generator) -> np.ndarray:
    return blend(noise(rng), palette(rng), palette(rng))


def waves(rng: np.random.Generator) -> np.ndarray:
    """Wood or marble."""
    y, x = grid(SIZE)
    phase = x * int(rng.integers(1, 12)) + noise(rng) * rng.uniform(0.5, 4) + y * int(rng.integers(0, 2))
    return blend(0.5 + 0.5 * np.sin(2 * np.pi * phase), palette(rng), palette(rng))


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Tiles, bricks, boards or checks with joints."""
    y, x = grid(SIZE)
    rows, columns = int(rng.choice([2, 4, 6, 8, 16])), int(rng.choice([1, 2, 4, 8]))
    shift = rng.choice([0, 0.5, 0.33]) * (np.floor(y * rows) % 2)
    across = (x * columns + shift) % columns
    cell = (y * rows).astype(int) % rows, across.astype(int) % columns
    first, second, joint = palette(rng), palette(rng), palette(rng, 0.1)
    tone = (
        (sum(cell) % 2).astype(float) if rng.random() < 0.3 else rng.random((rows, columns))[cell] * rng.uniform(0, 1)
    )
    picture = blend(tone, first, second) * (1 + rng.uniform(0, 0.5) * (noise(rng, 2) - 0.5))[..., None]
    width = rng.uniform(0.01, 0.1)
    gap = ((y * rows) % 1 < width * rows / 8) | (across % 1 < width * columns / 8)
    return np.where(gap[..., None], joint, picture)


def stripes(rng: np.random.Generator) -> np.ndarray:
    y, x = grid(SIZE)
    count = int(rng.choice([3, 6, 10, 16, 32]))
    edge = (x if rng.random() < 0.5 else y) * count + 0.3 * noise(rng)
    tones = rng.random(count + 2)
    return blend(tones[edge.astype(int) % count], palette(rng), palette(rng))


def leaves(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves: things of all sizes over one another, with the statistics of natural images."""
    picture = np.full((SIZE, SIZE, 3), palette(rng))
    colours = np.array([palette(rng, rng.choice([0.1, 0.6])) for _ in range(int(rng.integers(3, 16)))])
    for radius, count in ((0.2, 12), (0.1, 30), (0.04, 120), (0.015, 400)):
        if rng.random() < 0.8:
            picture = scatter(
                rng, picture, count, (radius / 3, radius), colours, square=rng.choice([0, 0.5, 1.0]), slender=(0.15, 1)
            )
    return picture


def speckle(rng: np.random.Generator) -> np.ndarray:
    """Gravel, carpet, asphalt, turf."""
    fine = fractal_noise(rng, SIZE, (48, 48), 3, 0.9)
    return blend(fine, palette(rng), palette(rng)) * (0.75 + 0.5 * noise(rng)[..., None])


def print_(rng: np.random.Generator) -> np.ndarray:
    """Shelves of spines, lines of text, windows of a facade: small blocks in rows."""
    picture = np.full((SIZE, SIZE, 3), palette(rng))
    colours = [palette(rng, rng.choice([0.1, 0.9])) for _ in range(int(rng.integers(1, 9)))]
    rows = int(rng.integers(2, 14))
    height = SIZE // rows
    widest = int(rng.integers(6, 40))
    for row in range(rows):
        column = int(rng.integers(0, 12))
        while column < SIZE:
            width = int(rng.integers(3, widest))
            top = row * height + int(rng.integers(1, max(2, height // 2)))
            picture[top : (row + 1) * height - 1, column : column + width] = colours[rng.integers(len(colours))]
            column += width + int(rng.integers(1, 8))
    return picture


def pattern(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """One of the library's own patterns, dyed, perhaps turned."""
    picture = PICTURES[names[rng.integers(len(names))]](rng, SIZE)
    return dyed(rng, np.rot90(picture, rng.integers(4)))


def photograph(rng: np.random.Generator, photographs: list[np.ndarray]) -> np.ndarray:
    """A crop of a photograph, mirrored to repeat without a seam, dyed."""
    picture = photographs[rng.integers(len(photographs))]
    side = int(rng.uniform(0.25, 1.0) * min(picture.shape[:2]))
    row, column = rng.integers(picture.shape[0] - side + 1), rng.integers(picture.shape[1] - side + 1)
    crop = cv2.resize(picture[row : row + side, column : column + side], (SIZE // 2,) * 2, interpolation=cv2.INTER_AREA)
    half = np.concatenate([crop, crop[:, ::-1]], axis=1)
    return dyed(rng, np.concatenate([half, half[::-1]]))


def dyed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        grey = picture.mean(-1, keepdims=True)
        tint = palette(rng)
        picture = grey + rng.uniform(0, 1) * (picture - grey)
        picture = picture * (1 - (amount := rng.uniform(0, 0.8))) + amount * 2 * grey * tint
    return np.clip(0.5 + (picture - 0.5) * rng.uniform(0.6, 1.2) + rng.uniform(-0.15, 0.15), 0, 1)


def cutout(rng: np.random.Generator) -> np.ndarray:
    """A silhouette with holes, RGBA: foliage, grass, a fence, a grid, a leaf, a splash, a plant."""
    y, x = grid(SIZE)
    colour = [clouds, leaves, plain, speckle][rng.integers(4)](rng)
    kind = rng.integers(6)
    if kind == 0:  # foliage
        weight = noise(rng, 2) + 0.35 * (1 - 2.2 * np.hypot(x - 0.5, y - 0.5))
        alpha = (weight > rng.uniform(0.5, 0.62)) & (np.hypot(x - 0.5, y - 0.5) < 0.5)
    elif kind == 1:  # pickets or bars
        count, share = int(rng.integers(3, 14)), rng.uniform(0.15, 0.6)
        alpha = ((x * count) % 1 < share) | (abs(y - 0.25) < 0.04) | (abs(y - 0.8) < 0.04)
        alpha &= y > (0.08 * abs(((x * count) % 1) / share - 0.5) if rng.random() < 0.5 else 0)
    elif kind == 2:  # a grid or a frame
        rows, columns, width = int(rng.integers(1, 6)), int(rng.integers(1, 6)), rng.uniform(0.02, 0.1)
        alpha = ((x * columns + width) % 1 < 2 * width) | ((y * rows + width) % 1 < 2 * width)
        alpha |= (np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))) < width / 2
    elif kind == 3:  # blades from the ground
        alpha = np.zeros((SIZE, SIZE), bool)
        for _ in range(int(rng.integers(6, 60))):
            foot, lean, height, width = (
                rng.uniform(0.1, 0.9),
                rng.normal() * 0.25,
                rng.uniform(0.3, 1),
                rng.uniform(0.005, 0.03),
            )
            up = (1 - y) / height
            alpha |= (abs(x - foot - lean * up**2) < width * (1 - up)) & (up < 1)
    elif kind == 4:  # a smooth blob
        angle, radius = np.arctan2(y - 0.5, x - 0.5), np.hypot(x - 0.5, y - 0.5)
        edge = 0.36 + sum(rng.normal() * 0.1 / k * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 9))
        alpha = radius < np.clip(edge, 0.05, 0.5)
    else:  # a plant: leaves along stems
        alpha = np.zeros((SIZE, SIZE), bool)
        for _ in range(int(rng.integers(3, 9))):
            turn, length = rng.normal() * 0.6, rng.uniform(0.4, 0.9)
            for along in np.linspace(0.15, 1, int(rng.integers(2, 8))):
                cx, cy = 0.5 + np.sin(turn) * along * length * 0.6, 1 - np.cos(turn) * along * length
                lean, size = turn + rng.normal() * 0.8, rng.uniform(0.04, 0.14)
                a, b = (
                    (x - cx) * np.cos(lean) + (y - cy) * np.sin(lean),
                    (y - cy) * np.cos(lean) - (x - cx) * np.sin(lean),
                )
                alpha |= (a / size / 0.4) ** 2 + (b / size) ** 2 < 1
            alpha |= (abs(x - 0.5 - np.tan(turn) * (1 - y) * 0.6) < 0.008) & (1 - y < length * np.cos(turn))
    return np.concatenate([colour, alpha[..., None].astype(float)], axis=-1)


def make_bank(seed: int, held_out: bool = False) -> Bank:
    """The bank of that number. Held-out banks use photographs and patterns that training banks do not."""
    rng = np.random.default_rng([seed, int(held_out), 77])
    files = [n for n in PHOTOGRAPHS if (n in HELD_OUT_PHOTOGRAPHS) == held_out]
    photographs = [_read(name) for name in files]
    names = [n for n in PICTURES if (n in HELD_OUT_PATTERNS) == held_out]
    makers: dict[str, list[Callable[[np.random.Generator], np.ndarray]]] = {
        "plain": [plain],
        "floor": [tiles, waves, speckle, plain, lambda r: photograph(r, photographs), lambda r: pattern(r, names)],
        "any": [
            clouds,
            waves,
            tiles,
            stripes,
            leaves,
            speckle,
            print_,
            plain,
            lambda r: pattern(r, names),
            lambda r: pattern(r, names),
            lambda r: photograph(r, photographs),
        ],
        "picture": [leaves, print_, lambda r: pattern(r, names), lambda r: photograph(r, photographs)],
        "cutout": [cutout],
        "cloud": [clouds],
    }
    pictures, categories = [], {}
    for category, count in _COUNTS.items():
        categories[category] = np.arange(len(pictures), len(pictures) + count)
        choices = makers[category]
        pictures += [choices[k % len(choices)](rng) for k in range(count)]
    return Bank(_pyramids(pictures), categories)


def load_bank(seed: int, folder: Path, held_out: bool = False) -> Bank:
    """The bank of that number from the cache, made where it is not there yet."""
    path = folder / f"bank_{'held_out' if held_out else 'train'}_{seed}.npz"
    if not path.is_file():
        bank = make_bank(seed, held_out)
        with staged_file(path) as file:
            np.savez(file, texels=bank.tiles.texels, **bank.categories)
    with np.load(path) as stored:
        return Bank(_tiles(stored["texels"]), {name: stored[name] for name in CATEGORIES})


def _read(name: str) -> np.ndarray:
    import skimage

    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_COLOR)
    return picture[..., ::-1].astype(np.float32) / 255


def _pyramids(pictures: list[np.ndarray]) -> Tiles:
    rows = []
    for picture in pictures:
        level = np.ones((SIZE, SIZE, 4))
        level[..., : picture.shape[2]] = picture
        parts = [level]
        while len(level) > 4:
            level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4
            parts.append(level)
        rows.append(np.concatenate([part.reshape(-1, 4) for part in parts]))
    return _tiles((np.clip(np.stack(rows), 0, 1) * 255 + 0.5).astype(np.uint8))


def _tiles(texels: np.ndarray) -> Tiles:
    sizes = np.array([SIZE >> k for k in range(SIZE.bit_length() - 2)])
    return Tiles(texels, np.concatenate([[0], np.cumsum(sizes**2)[:-1]]), sizes)
