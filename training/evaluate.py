# SPDX-License-Identifier: Apache-2.0
"""Score weights on scenes that training never saw: `python -m training.evaluate`.

Depth is scaled by one median for all views of a scene; AbsRel and delta1 are means over scenes. Beside the network
stand the guesses any network must beat: the same depth everywhere, and the mean depth map of the training scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from da3_core.network.any_view import AnyViewNetwork
from da3_core.postprocessing import SKY_THRESHOLD
from training.losses import Targets, log_focal_error
from training.network import new_network, predict
from training.plan import CURVE_SIZE, HELD_OUT_SCENES, HELD_OUT_SIZE, Plan, Size
from training.shards import collate, open_shard

Scores = dict[int, dict[str, float]]


@torch.no_grad()
def evaluate(
    network: AnyViewNetwork,
    held_out: dict[str, np.ndarray],
    views: Sequence[int] = (1, 2, 3, 4),
    scenes: int | None = None,
) -> Scores:
    """By number of views: AbsRel, delta1, how well confidence orders errors (`sparsification`, 1 is by chance or with a
    constant), how well the evenness of the image would, the share of pixels told rightly to be sky or not, and the
    median error of the focal length."""
    result = {}
    for number in views:
        rows, focal = [], []
        for scene, (features, truth) in enumerate(_scenes(held_out, number, scenes)):
            grid = (truth.depth.shape[2] // 14, truth.depth.shape[3] // 14)
            output, cameras = predict(network, features, grid)
            depth, true = output["depth"][0], truth.depth[0]
            sky = ((output["sky"][0] >= SKY_THRESHOLD) == (true == 0))[true >= 0].float().mean().item()
            even = evenness(held_out["images"][scene][:number])
            order = [sparsification(depth, true, each) for each in (output["depth_conf"][0], even)]
            rows.append((*depth_scores(depth, true), *order, sky))
            focal.append(log_focal_error(cameras, truth).abs().exp().mean().item() - 1)
        names = ("abs_rel", "delta1", "sparsification", "by evenness", "sky")
        result[number] = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
        result[number]["focal"] = float(np.median(focal))
    return result


def sparsification(predicted: Tensor, truth: Tensor, confidence: Tensor) -> float:
    """Area under the mean error of the most confident share of the pixels over all shares, relative to the mean error
    of all: 1 where confidence says nothing, less where it tells which pixels are wrong (Ilg et al. 2018)."""
    there = truth > 0
    p, t = predicted[there], truth[there]
    p = p * (t.median() / p.median())
    error = ((p - t).abs() / t)[torch.argsort(confidence[there], descending=True, stable=True)]
    means = torch.cumsum(error, 0) / torch.arange(1, len(error) + 1)
    return (means.mean() / error.mean().clamp(min=1e-9)).item()


def evenness(images: np.ndarray) -> Tensor:
    """How little the grey of `(N, H, W, 3)` images changes at each pixel `(N, H, W)`."""
    along_y, along_x = np.gradient(images.mean(-1, dtype=np.float32), axis=(1, 2))
    return torch.from_numpy(-np.hypot(along_x, along_y))


def baselines(
    held_out: dict[str, np.ndarray], mean_map: Tensor, views: Sequence[int] = (1, 2, 3, 4)
) -> dict[str, Scores]:
    """The scores of a constant and of a mean depth map (H, W)."""
    guesses = {"constant": torch.ones_like(mean_map), "mean map": mean_map}
    result: dict[str, Scores] = {}
    for name, guess in guesses.items():
        result[name] = {}
        for number in views:
            rows = [depth_scores(guess.expand_as(t.depth[0]), t.depth[0]) for _, t in _scenes(held_out, number)]
            result[name][number] = dict(zip(("abs_rel", "delta1"), np.mean(rows, axis=0).tolist(), strict=True))
    return result


def mean_depth_map(shards: Sequence[Path], size: Size) -> Tensor:
    """Geometric mean depth (H, W) over the first views of training scenes, each in its own unit."""
    total = count = torch.zeros(size)
    for path in shards:
        shard = open_shard(path)
        for scene in range(len(shard["depth"])):
            _, truth = _scene(shard, scene, 1)
            depth = F.interpolate(truth.depth, size)[0, 0]
            total, count = total + torch.log(depth.clamp(min=1e-3)) * (depth > 0), count + (depth > 0)
    return torch.exp(total / count.clamp(min=1))


def depth_scores(predicted: Tensor, truth: Tensor) -> tuple[float, float]:
    """AbsRel and delta1 of (N, H, W) after one median scale, where the truth is positive (Eigen et al. 2014)."""
    p, t = predicted[truth > 0], truth[truth > 0]
    p = p * (t.median() / p.median())
    ratio = torch.maximum(p / t, t / p)
    return ((p - t).abs() / t).mean().item(), (ratio < 1.25).float().mean().item()


def _scenes(held_out: dict[str, np.ndarray], views: int, scenes: int | None = None):  # type: ignore[no-untyped-def]
    for scene in range(len(held_out["depth"]) if scenes is None else scenes):
        yield _scene(held_out, scene, views)


def _scene(shard: dict[str, np.ndarray], scene: int, views: int) -> tuple[Tensor, Targets]:
    row = [np.array(shard[name][scene][:views]) for name in ("features", "depth", "camera_to_world")]
    return collate([(*row, shard["intrinsics"][scene])])


def load_average(path: Path) -> AnyViewNetwork:
    """The network with the averaged weights of a checkpoint."""
    network = new_network(0).eval()
    network.load_state_dict(torch.load(path, weights_only=True)["average"], strict=False)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=Plan().run / "state.pt", help="checkpoint of training.train")
    parser.add_argument("--size", default="x".join(map(str, HELD_OUT_SIZE)), help="height x width")
    parser.add_argument("--scenes", type=int, default=HELD_OUT_SCENES, help="how many of the held-out scenes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    height, width = (int(side) for side in arguments.size.split("x"))
    plan, size = Plan(), (height, width)
    folder = plan.held_out(size, arguments.scenes)
    if not folder.is_dir():
        from training.cache import Renderer

        Renderer(plan).held_out_set(size, arguments.scenes)
    held_out = open_shard(folder)
    shards = sorted((*plan.shards(CURVE_SIZE).glob("0*"), *plan.shards(HELD_OUT_SIZE).glob("0*")))[-10:]
    mean_map = mean_depth_map(shards, size)
    table = {"da3-embedded": evaluate(load_average(arguments.state), held_out), **baselines(held_out, mean_map)}
    for name, scores in table.items():
        for views, entry in scores.items():
            print(f"{name:14} {views} views  " + "  ".join(f"{key} {value:.3f}" for key, value in entry.items()))


if __name__ == "__main__":
    main()
