# SPDX-License-Identifier: Apache-2.0
"""`kitti`: the camera trajectory as the KITTI odometry benchmark has it, `kitti/poses.txt` and `kitti/times.txt`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.maps import Map, each_map
from da3_core.export.tum import times
from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """A line of 12 numbers per view, camera to world `(3, 4)` row by row, in the axes of `Prediction.world`, and a line
    with its time in seconds, or its number. KITTI knows no header."""
    for one in each_map(prediction, folder):
        _write_map(one)


def _write_map(one: Map) -> None:
    assert one.prediction.extrinsics is not None
    camera_to_world = invert_rigid(one.prediction.extrinsics.astype(np.float64))
    folder = one.folder / "kitti"
    folder.mkdir(parents=True)
    np.savetxt(folder / "poses.txt", camera_to_world[:, :3].reshape(-1, 12), fmt="%.9g")
    (folder / "times.txt").write_text("".join(f"{time}\n" for time in times(one)))
