# SPDX-License-Identifier: Apache-2.0
"""Render scenes and store what the frozen blocks make of them: `python -m training.cache` feeds a running training.

A shard is a folder of plain arrays: features (S, N, 2, 1 + P, C) float16, depth (S, N, H, W) float16 in metres, images
(S, N, H, W, 3) uint8, intrinsics (S, 3, 3) and camera_to_world (S, N, 4, 4) float32, style.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch

from da3_core.storage.staging import staged_folder
from training.network import frozen_features, new_network
from training.plan import (
    BANKS,
    CURVE_SCENES,
    CURVE_SIZE,
    HELD_OUT_BANKS,
    HELD_OUT_SCENES,
    HELD_OUT_SEED,
    LARGE,
    SHARD_SCENES,
    SMALL,
    VIEWS,
    Plan,
    Size,
)
from training.textures import load_bank
from training.views import Sample, make_sample

_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
_LEAD_IMAGES = 6_000  # how far rendering runs ahead of training


def normalise(images: np.ndarray) -> torch.Tensor:
    """Images (N, H, W, 3) uint8 to (N, 3, H, W) as the network takes them."""
    return ((torch.from_numpy(images).float() / 255 - _MEAN) / _STD).permute(0, 3, 1, 2)


def write_shard(folder: Path, samples: list[Sample], features: list[np.ndarray]) -> None:
    """All arrays of a shard, at once."""
    arrays = {
        "features": np.stack(features),
        "depth": np.stack([s.depth for s in samples]).astype(np.float16),
        "images": np.stack([s.images for s in samples]),
        "intrinsics": np.stack([s.intrinsics for s in samples]).astype(np.float32),
        "camera_to_world": np.stack([s.camera_to_world for s in samples]).astype(np.float32),
        "style": np.array([s.style for s in samples]),
    }
    with staged_folder(folder) as staging:
        for name, array in arrays.items():
            np.save(staging / f"{name}.npy", array)


class Renderer:
    """Makes shards; holds the frozen network."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.network = new_network(0).eval()

    def training_shard(self, shard: int) -> None:
        """Shard number `shard`, the same wherever and whenever it is made."""
        size = self.plan.shard_size(shard)
        bank = load_bank(shard % BANKS, self.plan.banks)
        seeds = range(shard * SHARD_SCENES, (shard + 1) * SHARD_SCENES)
        self._render(self.plan.shards(size) / f"{shard:06d}", [(seed, bank) for seed in seeds], size)

    def held_out_set(self, size: Size, count: int = HELD_OUT_SCENES) -> None:
        """The scenes for evaluation: seeds, photographs and patterns that training never sees."""
        banks = [load_bank(k, self.plan.banks, held_out=True) for k in range(HELD_OUT_BANKS)]
        scenes = [(HELD_OUT_SEED + k, banks[k % HELD_OUT_BANKS]) for k in range(count)]
        self._render(self.plan.held_out(size, count), scenes, size)

    def _render(self, folder: Path, scenes: list, size: Size) -> None:  # type: ignore[type-arg]
        samples = [make_sample(seed, bank, VIEWS, size) for seed, bank in scenes]
        features = [
            frozen_features(
                self.network, normalise(sample.images), bfloat16=not folder.name.startswith("held_out")
            ).numpy()
            for sample in samples
        ]
        write_shard(folder, samples, features)


def images_seen(plan: Plan) -> int:
    path = plan.run / "progress.json"
    return int(json.loads(path.read_text())["images"]) if path.is_file() else 0


def discard_old(plan: Plan) -> None:
    """Delete the oldest shards beyond the disk budget, those of the size in use last."""
    shards = sorted(
        (path for size in {*SMALL, *LARGE} for path in plan.shards(size).glob("0*")),
        key=lambda p: p.name,
    )
    sizes = [sum(f.stat().st_size for f in shard.iterdir()) for shard in shards]
    excess = sum(sizes) - plan.disk_gb * 1e9
    for shard, size in zip(shards, sizes, strict=True):
        if excess <= 0:
            break
        shutil.rmtree(shard)
        excess -= size


def feed(plan: Plan, parent: int | None = None) -> None:
    """Render shard after shard, a little ahead of the training, until it needs no more or its process is gone."""
    renderer, shard = Renderer(plan), 0
    while plan.needed_at(shard) < plan.images:
        if parent is not None and os.getppid() != parent:
            return
        if shard == 4 and not plan.held_out(CURVE_SIZE, CURVE_SCENES).is_dir():
            renderer.held_out_set(CURVE_SIZE, CURVE_SCENES)
        if _exists(plan, shard):
            shard += 1
        elif plan.needed_at(shard) < images_seen(plan) - _LEAD_IMAGES:
            shard += 1  # its time has passed, and it was deleted
        elif plan.needed_at(shard) > images_seen(plan) + _LEAD_IMAGES:
            time.sleep(5)
        else:
            renderer.training_shard(shard)
            discard_old(plan)


def _exists(plan: Plan, shard: int) -> bool:
    return (plan.shards(plan.shard_size(shard)) / f"{shard:06d}").is_dir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=Plan.images)
    parser.add_argument("--parent", type=int, help="stop when this process is gone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    feed(Plan(images=arguments.images), arguments.parent)


if __name__ == "__main__":
    main()
