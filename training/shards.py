# SPDX-License-Identifier: Apache-2.0
"""Cached scenes: opened, drawn at random, put together into batches."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.losses import Targets
from training.plan import LARGE, SMALL, VIEWS, Plan, Size

SMALL_AGAIN = 0.3  # share of the batches that stay small when large ones have begun


@dataclass(eq=False)
class Shards:
    """Random access to cached scenes, reading files that appear while it runs."""

    plan: Plan
    opened: dict[Path, dict[str, np.ndarray]] = field(default_factory=dict)

    def batch(self, rng: np.random.Generator, seen: int, scenes: int, views: int) -> tuple[Tensor, Targets]:
        """Scenes at random, all of one size: that of a shard drawn first."""
        sizes = self.plan.sizes(seen)
        if sizes == LARGE and rng.random() < SMALL_AGAIN:
            sizes = SMALL
        while not (paths := self._shards(sizes)):
            time.sleep(5)
        folder = paths[rng.integers(len(paths))].parent
        paths = [path for path in paths if path.parent == folder]
        return collate([self._scene(rng, paths[rng.integers(len(paths))], views) for _ in range(scenes)])

    def _shards(self, sizes: tuple[Size, ...]) -> list[Path]:
        """All shards of these sizes, opened; they come and go while this runs."""
        folders = [self.plan.shards(size) for size in sorted(set(sizes))]
        there = [path for folder in folders for path in sorted(folder.glob("0*"))]
        self.opened = {path: shard for path, shard in self.opened.items() if path.exists()}
        for path in there:
            if path not in self.opened:
                with contextlib.suppress(FileNotFoundError):  # deleted just now
                    self.opened[path] = open_shard(path)
        return [path for path in there if path in self.opened]

    def _scene(self, rng: np.random.Generator, path: Path, views: int) -> tuple[np.ndarray, ...]:
        shard = self.opened[path]
        scene = int(rng.integers(len(shard["depth"])))
        chosen = rng.permutation(VIEWS)[:views]
        names = ("features", "depth", "camera_to_world")
        return (*(shard[name][scene][chosen] for name in names), shard["intrinsics"][scene])


def open_shard(folder: Path) -> dict[str, np.ndarray]:
    names = ("features", "depth", "camera_to_world", "intrinsics", "images")
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def collate(rows: list[tuple[np.ndarray, ...]]) -> tuple[Tensor, Targets]:
    features, depth, poses, intrinsics = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
    return features, Targets.of(depth.float(), poses.float(), intrinsics.float())
