# SPDX-License-Identifier: Apache-2.0
"""Pictures of a training: the curve, held-out scenes, photographs: `python -m training.show --out docs`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from da3_core.network.any_view import AnyViewNetwork
from da3_core.visualise import colorize_depth
from training.cache import normalise
from training.evaluate import load_average
from training.plan import CURVE_SCENES, CURVE_SIZE, HELD_OUT_SIZE, Plan, Size

_PHOTOGRAPHS = ("coffee.png", "chelsea.png", "camera.png", "astronaut.png", "rocket.jpg", "clock_motion.png")
_SCENES = 12


def curve(log: Path, out: Path) -> None:
    """AbsRel and delta1 on the curve's scenes over images seen, one line for one view and one for four."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    thousands = [int(row["images"]) / 1000 for row in rows]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for axis, names, title in (
        (axes[0], ("loss_depth", "loss_gradient"), "training loss"),
        (axes[1], ("abs_rel_1", "abs_rel_4"), "held-out AbsRel, 1 and 4 views"),
        (axes[2], ("delta1_1", "delta1_4"), "held-out delta1, 1 and 4 views"),
    ):
        for name in names:
            axis.plot(thousands, [float(row[name]) for row in rows], marker=".", label=name)
        axis.set(title=title, xlabel="images seen, thousands")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(out, dpi=110)


@torch.inference_mode()
def depth_of(network: AnyViewNetwork, images: np.ndarray) -> Tensor:
    """Depth (N, H, W) of images (N, H, W, 3) uint8, each by itself."""
    return torch.stack([network(normalise(image[None])[None])["depth"][0, 0] for image in images])


def held_out_sheet(network: AnyViewNetwork, folder: Path) -> np.ndarray:
    """Image, truth and prediction of the first view of the first scenes, three scenes to a row."""
    images = np.load(folder / "images.npy", mmap_mode="r")[:_SCENES, 0]
    truth = np.load(folder / "depth.npy", mmap_mode="r")[:_SCENES, 0].astype(np.float32)
    predicted = depth_of(network, np.array(images)).numpy()
    cells = [
        np.concatenate([image, colorize_depth(np.where(t > 0, t, np.nan)), colorize_depth(p)], axis=1)
        for image, t, p in zip(images, truth, predicted, strict=True)
    ]
    return _grid(cells, 3)


def photograph_sheet(network: AnyViewNetwork, size: Size) -> np.ndarray:
    """Free photographs of the scikit-image wheel, none of which trained anything, each with its predicted depth."""
    import skimage

    cells = []
    for name in _PHOTOGRAPHS:
        picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_COLOR)[..., ::-1]
        image = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        cells.append(np.concatenate([image, colorize_depth(depth_of(network, image[None])[0].numpy())], axis=1))
    return _grid(cells, 3)


def _grid(cells: list[np.ndarray], columns: int) -> np.ndarray:
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--state", type=Path, default=Plan().run / "state.pt")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan, network = Plan(), load_average(arguments.state)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if (plan.run / "log.csv").is_file():
        curve(plan.run / "log.csv", arguments.out / "training_curve.png")
    sheets = {
        "embedded_held_out.png": held_out_sheet(network, plan.held_out(CURVE_SIZE, CURVE_SCENES)),
        "embedded_photographs.png": photograph_sheet(network, HELD_OUT_SIZE),
    }
    for name, sheet in sheets.items():
        cv2.imwrite(str(arguments.out / name), np.ascontiguousarray(sheet[..., ::-1]))


if __name__ == "__main__":
    main()
