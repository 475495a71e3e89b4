# SPDX-License-Identifier: Apache-2.0
"""`tum`: the camera trajectory as text, `trajectory.txt`, in the format of the TUM RGB-D benchmark."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.maps import Map, each_map
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """A line `time tx ty tz qx qy qz qw` per view, camera to world; see `times`."""
    for one in each_map(prediction, folder):
        _write_map(one)


def times(one: Map) -> list[str]:
    """Seconds with nine digits of the views of a map, or their numbers among all views where times are not known."""
    if one.prediction.stamps_ns is None:
        return [str(number) for number in one.views]
    return [f"{stamp // 10**9}.{stamp % 10**9:09d}" for stamp in one.prediction.stamps_ns.tolist()]


def _write_map(one: Map) -> None:
    assert one.prediction.extrinsics is not None
    camera_to_world = invert_rigid(one.prediction.extrinsics.astype(np.float64))
    rotations = quaternion_from_rotation(camera_to_world[:, :3, :3])
    unit = "m" if one.prediction.is_metric else "unit of the map"
    time = "number of the view" if one.prediction.stamps_ns is None else "s"
    lines = [
        f"# camera (x right, y down, z forward) in {one.prediction.world}",
        f"# time ({time}) tx ty tz ({unit}) qx qy qz qw",
    ]
    # No -0.
    for at, row in zip(times(one), np.column_stack([camera_to_world[:, :3, 3], rotations]) + 0.0, strict=True):
        lines.append(" ".join([at, *(f"{value:.9g}" for value in row)]))
    one.folder.mkdir(parents=True, exist_ok=True)
    (one.folder / "trajectory.txt").write_text("\n".join(lines) + "\n")
