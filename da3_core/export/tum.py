# SPDX-License-Identifier: Apache-2.0
"""`tum`: the camera trajectory as text, `trajectory.txt`, in the format of the TUM RGB-D benchmark."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """A line `time tx ty tz qx qy qz qw` per view, camera to world; the time is the number of the view."""
    assert prediction.extrinsics is not None
    camera_to_world = invert_rigid(prediction.extrinsics.astype(np.float64))
    rotations = quaternion_from_rotation(camera_to_world[:, :3, :3])
    rows = np.column_stack([np.arange(len(rotations)), camera_to_world[:, :3, 3], rotations])
    np.savetxt(folder / "trajectory.txt", rows, fmt=["%d", *["%.9g"] * 7])
