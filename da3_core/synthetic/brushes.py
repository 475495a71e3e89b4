# SPDX-License-Identifier: Apache-2.0
"""What procedural pictures are painted with: smooth noise, blends of two colours, scattered leaves. All wrap around."""

from __future__ import annotations

import numpy as np


def value_noise(rng: np.random.Generator, n: int, cells: tuple[int, int]) -> np.ndarray:
    """`(n, n)` smooth periodic noise in [0, 1] on a lattice of `cells` rows and columns."""
    lattice = rng.random(cells, np.float32)
    return np.asarray(_smooth_steps(n, cells[0]) @ lattice @ _smooth_steps(n, cells[1]).T)


def _smooth_steps(n: int, count: int) -> np.ndarray:
    """`(n, count)` weights of `count` periodic lattice values at `n` places: a smooth step from each to the next."""
    position = np.arange(n, dtype=np.float32) * count / n
    index = position.astype(int)
    fraction = position - index
    step = fraction * fraction * (3 - 2 * fraction)
    weights = np.zeros((n, count), np.float32)
    weights[np.arange(n), index] = 1 - step
    weights[np.arange(n), (index + 1) % count] += step
    return weights


def fractal_noise(
    rng: np.random.Generator, n: int, cells: tuple[int, int] = (4, 4), octaves: int = 5, gain: float = 0.55
) -> np.ndarray:
    """`(n, n)` periodic noise scaled to [0, 1]: octaves of value noise, each twice as fine and `gain` as strong."""
    total = np.zeros((n, n), np.float32)
    for octave in range(octaves):
        fine = (min(cells[0] << octave, n // 2), min(cells[1] << octave, n // 2))
        total += gain**octave * value_noise(rng, n, fine)
    return np.asarray((total - total.min()) / np.ptp(total))


def palette(colours: str) -> np.ndarray:
    """`(k, 3)` float32 in [0, 1] from hexadecimal colours with blanks between, such as "ede3cc cc4730"."""
    return np.array([list(bytes.fromhex(colour)) for colour in colours.split()], np.float32) / 255


def grid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns `(n, n)` of texel centres in [0, 1)."""
    y, x = (np.mgrid[0:n, 0:n].astype(np.float32) + 0.5) / n
    return y, x


def blend(weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Colours from `low` (..., 3) where `weight` (...) is 0 to `high` where it is 1."""
    return np.asarray(low + weight[..., None] * (high - low))


def mask(where: np.ndarray, picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`picture` (n, n, 3) where `where` (n, n) holds and `other` elsewhere."""
    return np.where(where[..., None], picture, other)


def scatter(
    rng: np.random.Generator,
    picture: np.ndarray,
    count: int,
    radii: tuple[float, float],
    colours: np.ndarray,
    *,
    slender: tuple[float, float] = (0.4, 1.0),
    square: float = 0.0,
    shade: float = 0.15,
    opacity: float = 1.0,
) -> np.ndarray:
    """Lay `count` ellipses (a share `square` of them rectangles) of random size, place and turn over a picture.

    `slender` is the range of the ratio of their sides; `shade` brightens one side and darkens the other.
    """
    n = len(picture)
    reach = int(radii[1] * n) + 1
    offset = np.arange(-reach, reach + 1, dtype=np.float32)
    radius = rng.uniform(*radii, (count, 1, 1)).astype(np.float32) * n
    angle = rng.uniform(0, np.pi, (count, 1, 1)).astype(np.float32)
    along = offset * np.cos(angle) + offset[:, None] * np.sin(angle)
    across = (offset[:, None] * np.cos(angle) - offset * np.sin(angle)) / rng.uniform(*slender, (count, 1, 1))
    inside = along**2 + across**2 < radius**2
    straight = rng.random(count) < square
    inside[straight] = np.maximum(abs(along), abs(across))[straight] < 0.7 * radius[straight]
    leaf, row, column = np.nonzero(inside)  # in the order of the leaves: a later one covers an earlier one
    place = rng.integers(0, n, (2, count))
    row, column = (row + place[0, leaf]) % n, (column + place[1, leaf]) % n
    own = np.clip(colours[rng.integers(len(colours), size=count)] + rng.normal(0, 0.04, (count, 3)), 0.02, 0.98)
    lit = 1 + shade * (across / radius)[inside]
    picture = np.array(picture, np.float32)
    picture[row, column] += opacity * (own[leaf] * lit[:, None] - picture[row, column])
    return picture
