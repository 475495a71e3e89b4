# SPDX-License-Identifier: Apache-2.0
"""How right the estimated focal length of a model is, by the shape of the image and the field of view.

`python benchmarks/focal_lengths.py [--model embedded] [--out FILE.json]`: each cell is the median of estimated over
true focal length, of four single views in each of three synthetic rooms.
"""

import argparse
from pathlib import Path

import numpy as np
import report

from da3_core import DepthAnything3
from da3_core.synthetic import room_walk

SIZES_WH = ((320, 240), (320, 180), (240, 320), (180, 320), (240, 240))
LONGER_SIDE_DEG = (50, 60, 70, 85)
ROOMS, VIEWS = 3, 4


def ratio(model: DepthAnything3, size_wh: tuple[int, int], angle_deg: float) -> float:
    """Median over views of estimated / true focal length."""
    width, height = size_wh
    focal_px = max(size_wh) / 2 / np.tan(np.deg2rad(angle_deg) / 2)
    intrinsics = np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])
    found = []
    for seed in range(ROOMS):
        walk = room_walk(VIEWS, (height, width), intrinsics=intrinsics, seed=seed)
        for image in walk.images:
            prediction = model.inference([image])
            assert prediction.intrinsics is not None
            found.append(prediction.original_intrinsics()[0, 0, 0] / focal_px)
    return float(np.median(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    arguments = parser.parse_args()
    model = DepthAnything3.from_pretrained(arguments.model, precision="float32")
    rows = []
    print("| image | " + " | ".join(f"{angle}°" for angle in LONGER_SIDE_DEG) + " |")
    print("|---" * (len(LONGER_SIDE_DEG) + 1) + "|")
    for width, height in SIZES_WH:
        ratios = [ratio(model, (width, height), angle) for angle in LONGER_SIDE_DEG]
        print(f"| {width}×{height} | " + " | ".join(f"{value:.2f}" for value in ratios) + " |")
        rows.append({"size_wh": (width, height), "ratios": ratios})
    report.publish("focal_lengths", arguments.out, longer_side_deg=LONGER_SIDE_DEG, rows=rows)


if __name__ == "__main__":
    main()
