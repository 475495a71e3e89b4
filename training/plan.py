# SPDX-License-Identifier: Apache-2.0
"""What is trained on what, in numbers: sizes, amounts, places on disk; all of the recipe reads them here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

Size = tuple[int, int]

PRESET = "da3-embedded"
CACHED_BLOCKS = (5, 7)  # outputs of the frozen part that the trained part reads
VIEWS = 4  # of every scene
SHARD_SCENES = 64
BANKS = 16
HELD_OUT_SCENES, HELD_OUT_SEED, HELD_OUT_BANKS = 192, 10_000_000, 3
CURVE_SCENES = 64  # of them, for the curve
CURVE_SIZE, HELD_OUT_SIZE = (112, 154), (168, 224)
EVERY_IMAGE = 2.4  # how often an image is seen
# Two fifths of the shards are 4:3 as cameras are; upright, wide (16:9) and square ones follow in turn.
SMALL: tuple[Size, ...] = ((112, 154), (154, 112), (98, 168), (112, 154), (126, 126), (98, 168), (112, 154), (168, 98))
LARGE: tuple[Size, ...] = (
    (168, 224),
    (224, 168),
    (126, 224),
    (168, 224),
    (196, 196),
    (126, 224),
    (168, 224),
    (224, 126),
)


@dataclass(frozen=True)
class Plan:
    """A training run.

    Attributes:
        images: to be seen in all, counting repetitions.
        large_from: share of the run after which images are large.
        disk_gb: cached features kept at a time; older ones make place.
        folder: where everything lives.
    """

    images: int = 112_000
    large_from: float = 86_400 / 112_000
    disk_gb: float = 16.0
    folder: Path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "da3_ros" / "training"

    def sizes(self, seen: int) -> tuple[Size, ...]:
        """Heights and widths of the images that a trainer who has seen so many sees next."""
        return SMALL if seen < self.large_from * self.images else LARGE

    def shard_size(self, shard: int) -> Size:
        sizes = self.sizes(self.needed_at(shard))
        return sizes[shard % len(sizes)]

    def needed_at(self, shard: int) -> int:
        """Images seen when the shard of that number should be there."""
        return int(shard * SHARD_SCENES * VIEWS * EVERY_IMAGE)

    def shards(self, size: Size) -> Path:
        return self.folder / f"{size[0]}x{size[1]}"

    @property
    def banks(self) -> Path:
        return self.folder / "banks"

    def held_out(self, size: Size, scenes: int = HELD_OUT_SCENES) -> Path:
        return self.folder / f"held_out_{scenes}_{size[0]}x{size[1]}"

    @property
    def run(self) -> Path:
        return self.folder / "run"
