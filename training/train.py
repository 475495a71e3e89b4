# SPDX-License-Identifier: Apache-2.0
"""Train what `da3-embedded` adds to DINOv2: `python -m training.train --hours 3`, again to go on where it stopped.

Starts its own renderer. State, log and weights are in `~/.cache/da3_ros/training/run`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from da3_core.network.any_view import AnyViewNetwork
from da3_core.storage.staging import staged_file, write_atomically
from training.losses import WEIGHTS, losses
from training.network import new_network, predict, trained
from training.plan import CURVE_SCENES, CURVE_SIZE, Plan
from training.shards import Shards, open_shard

_log = logging.getLogger(__name__)

IMAGES_PER_STEP = 12
VIEW_SHARES = {1: 0.35, 2: 0.25, 3: 0.1, 4: 0.3}
PEAK_RATE, BACKBONE_SHARE, WARM_UP_STEPS = 5e-4, 0.25, 300
EMA = 0.998
HEADS_FIRST = 0.15  # share of a run from nothing in which the blocks of DINOv2 stay: faster, and nothing spoils them
FULL_STEPS = 6  # every sixth step decodes all pixels, and rays, which cost as much again; the others every second pixel
SAVE_S, MEASURE_IMAGES = 240.0, 7_500


class Trainer:
    """Network, optimiser, running mean of the weights and counters, as one thing that can be saved."""

    def __init__(self, plan: Plan, seed: int = 0, bfloat16: bool = False, earlier: Path | None = None) -> None:
        self.plan, self.bfloat16, self.from_nothing = plan, bfloat16, earlier is None
        self.network = new_network(seed, earlier).train()
        self.parameters = trained(self.network)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.optimiser = torch.optim.AdamW(_groups(self.parameters), betas=(0.9, 0.98))
        self.rng = np.random.default_rng(seed)
        self.steps = self.images = 0
        self.running: dict[str, float] = {}

    def step(self, shards: Shards) -> None:
        """One batch: look, compare, improve."""
        views = int(self.rng.choice(list(VIEW_SHARES), p=list(VIEW_SHARES.values())))
        features, truth = shards.batch(self.rng, self.images, max(1, IMAGES_PER_STEP // views), views)
        if (
            self.steps == 0 and self.from_nothing
        ):  # a camera token takes the place of a class token, so it starts as the mean of such
            with torch.no_grad():
                self.network.backbone.pretrained.camera_token.copy_(features[:, :, -1, 0].float().mean((0, 1)))
        grid = (truth.depth.shape[2] // 14, truth.depth.shape[3] // 14)
        heads_only = self.from_nothing and self.images < HEADS_FIRST * self.plan.images
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(not (heads_only and name.startswith("backbone.")))
        full = self.steps % FULL_STEPS == 0
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            output, cameras = predict(self.network, features, grid, every=1 if full else 2, rays=full)
        found = losses(output, cameras, truth.thinned(1 if full else 2))
        total = sum(WEIGHTS[name] * value for name, value in found.items())
        assert isinstance(total, Tensor)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.parameters.values() if p.grad is not None], 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * self._rate()
        self.optimiser.step()
        self._follow()
        self.steps += 1
        self.images += features.shape[0] * features.shape[1]
        for name, value in ((name, value.item()) for name, value in found.items()):
            self.running[name] = 0.99 * self.running.get(name, value) + 0.01 * value

    def _rate(self) -> float:
        """Warm-up, then half a cosine over the images of the plan."""
        done = min(1.0, self.images / self.plan.images)
        return PEAK_RATE * min(1.0, (self.steps + 1) / WARM_UP_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))

    @torch.no_grad()
    def _follow(self) -> None:
        share = 1 - min(EMA, (self.steps + 1) / (self.steps + 20))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter, share)

    def state(self) -> dict[str, Any]:
        return {
            "weights": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "counters": {"steps": self.steps, "images": self.images},
            "running": self.running,
        }

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["weights"][name])
                self.average[name].copy_(state["average"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.images = state["counters"]["steps"], state["counters"]["images"]
        self.running = state["running"]


def _groups(parameters: dict[str, torch.nn.Parameter]) -> list[dict[str, Any]]:
    """Blocks that DINOv2 trained move slowly; weight decay is for matrices only."""
    groups = []
    for inherited in (False, True):
        for matrix in (False, True):
            chosen = [
                p
                for name, p in parameters.items()
                if name.startswith("backbone.") == inherited and (p.ndim > 1) == matrix
            ]
            share = BACKBONE_SHARE if inherited else 1.0
            groups.append({"params": chosen, "weight_decay": 0.05 * matrix, "lr": PEAK_RATE, "share": share})
    return groups


def run(plan: Plan, hours: float, bfloat16: bool, earlier: Path | None = None) -> None:
    """Train until the plan is done or the time is up; saves every few minutes and when told to stop."""
    from training.evaluate import evaluate

    plan.run.mkdir(parents=True, exist_ok=True)
    trainer, checkpoint = Trainer(plan, bfloat16=bfloat16, earlier=earlier), plan.run / "state.pt"
    if checkpoint.is_file():
        trainer.restore(torch.load(checkpoint, weights_only=True))
        _log.info("going on at %d images", trainer.images)
    _save(trainer)
    renderer = subprocess.Popen(
        [sys.executable, "-m", "training.cache", "--images", str(plan.images), "--parent", str(os.getpid())]
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    shards, start, saved, first = Shards(plan), time.monotonic(), time.monotonic(), trainer.images
    try:
        while trainer.images < plan.images and time.monotonic() - start < 3600 * hours:
            before = trainer.images // MEASURE_IMAGES
            trainer.step(shards)
            if trainer.steps % 50 == 0:
                speed = (trainer.images - first) / (time.monotonic() - start)
                _log.info("%d images, %.1f/s, %s", trainer.images, speed, _short(trainer.running))
                _write_progress(plan, trainer.images)
            curve = plan.held_out(CURVE_SIZE, CURVE_SCENES)
            if trainer.images // MEASURE_IMAGES > before and curve.is_dir():
                _record(plan, trainer, evaluate(with_average(trainer), open_shard(curve), views=(1, 4)))
            if time.monotonic() - saved > SAVE_S:
                saved = time.monotonic()
                _save(trainer)
    finally:
        _save(trainer)
        renderer.terminate()
        renderer.wait()


def with_average(trainer: Trainer) -> AnyViewNetwork:
    """A copy of the network with the averaged weights."""
    import copy

    network = copy.deepcopy(trainer.network).eval()
    network.load_state_dict(trainer.average, strict=False)
    return network


def _save(trainer: Trainer) -> None:
    with staged_file(trainer.plan.run / "state.pt") as file:
        torch.save(trainer.state(), file)
    _write_progress(trainer.plan, trainer.images)


def _write_progress(plan: Plan, images: int) -> None:
    write_atomically(plan.run / "progress.json", json.dumps({"images": images}).encode())


def _record(plan: Plan, trainer: Trainer, scores: dict[int, dict[str, float]]) -> None:
    """One line of the log: images seen, running losses, scores on the first held-out scenes."""
    row = {"images": trainer.images, **{f"loss_{name}": trainer.running.get(name, math.nan) for name in WEIGHTS}}
    row |= {f"{name}_{views}": value for views, entry in scores.items() for name, value in entry.items()}
    path = plan.run / "log.csv"
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()})
    _log.info("held out: %s", scores)


def _short(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hours", type=float, default=24.0, help="stop after that long; the same command goes on later"
    )
    parser.add_argument("--images", type=int, default=Plan.images, help="length of the schedule in images seen")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16: twice as fast with avx512_bf16")
    parser.add_argument("--from-weights", type=Path, help="shipped weights to go on from, instead of from DINOv2 alone")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    run(Plan(images=arguments.images), arguments.hours, arguments.bfloat16, arguments.from_weights)


if __name__ == "__main__":
    main()
