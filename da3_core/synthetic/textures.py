# SPDX-License-Identifier: Apache-2.0
"""A picture that repeats, with its mip pyramid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MipTexture:
    """A periodic picture at all its halvings, one after the other in a flat array.

    Attributes:
        texels: `(3, sum of all sizes squared)` uint8, display values (gamma about 2).
        offsets: `(levels,)` where each level starts.
        sizes: `(levels,)` side of each level in texels.
    """

    texels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    @classmethod
    def from_picture(cls, picture: np.ndarray) -> MipTexture:
        """From `(n, n, 3)` floats in [0, 1]; `n` a power of two."""
        levels: list[np.ndarray] = [np.asarray(picture, np.float32)]
        while len(levels[-1]) > 2:
            last = levels[-1]
            levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4)
        texels = np.concatenate([level.reshape(-1, 3) for level in levels]).T
        sizes = np.array([len(level) for level in levels])
        offsets = np.concatenate([[0], np.cumsum(sizes**2)[:-1]])
        return cls(np.ascontiguousarray(np.clip(texels, 0, 1) * 255 + 0.5).astype(np.uint8), offsets, sizes)

    def sample(self, tiles: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """`(3, n)` float32 in [0, 1] at `tiles` (2, n), u right and v down, blurred over `footprint` (n,) tiles.

        Trilinear: between texels and between the two nearest levels (Williams, Pyramidal Parametrics, 1983).
        """
        level = np.log2(np.maximum(footprint * self.sizes[0], 1))
        level = np.minimum(level, len(self.sizes) - 1.001).astype(np.float32)
        fine = level.astype(np.intp)
        blend = level - fine
        mixed = self._bilinear(tiles, fine) * (1 - blend) + self._bilinear(tiles, fine + 1) * blend
        return np.asarray(mixed / np.float32(255))

    def _bilinear(self, tiles: np.ndarray, level: np.ndarray) -> np.ndarray:
        size = self.sizes[level]
        position = tiles * size.astype(np.float32) - np.float32(0.5)
        corner = np.floor(position)
        across, down = position - corner
        near = corner.astype(np.intp) & (size - 1)
        far = (near + 1) & (size - 1)
        top, bottom = self.offsets[level] + near[1] * size, self.offsets[level] + far[1] * size
        upper = self._texels(top + near[0]) * (1 - across) + self._texels(top + far[0]) * across
        lower = self._texels(bottom + near[0]) * (1 - across) + self._texels(bottom + far[0]) * across
        return np.asarray(upper * (1 - down) + lower * down)

    def _texels(self, index: np.ndarray) -> np.ndarray:
        return np.take(self.texels, index, axis=1)
