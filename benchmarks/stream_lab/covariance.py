# SPDX-License-Identifier: Apache-2.0
"""How often the poses of a live session are as near to the truth as their covariance says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.session import Session, SessionOptions


@dataclass(frozen=True, eq=False)
class Stated:
    """Of every frame but the first: errors and stated deviations `(N, 6)`, of position in map units, and in radians."""

    error: np.ndarray
    deviation: np.ndarray

    def within(self) -> tuple[float, float]:
        """The shares of positions and of rotations, by axis, that are within one deviation: 0.68 of normal errors."""
        inside = np.abs(self.error) < self.deviation
        return float(inside[:, :3].mean()), float(inside[:, 3:].mean())


def stated(
    model: Callable[[Sequence[Frame]], Prediction],
    frames: Sequence[Frame],
    camera_to_world: np.ndarray,
    size: int,
    stride: int,
) -> Stated:
    """A walk through a live session, its frames numbered by their stamps. The map begins at the first true camera, and
    its unit, which nobody knows, is the one that fits all of it best."""
    session = Session(model, SessionOptions("auto", 1.0))
    results = [session.process(frames[end - size : end]) for end in range(size, len(frames) + 1, stride)]
    views = [view for result in results for view in result.views if view.is_new and view.pose_covariance is not None]
    said = np.stack([invert_rigid(view.world_to_camera) for view in views])
    true = invert_rigid(camera_to_world[0]) @ camera_to_world[[view.frame.stamp_ns for view in views]]
    places, true_places = said[:, :3, 3], true[:, :3, 3]
    unit = (places * true_places).sum() / (true_places**2).sum()
    turned = Rotation.from_matrix(said[:, :3, :3] @ true[:, :3, :3].transpose(0, 2, 1)).as_rotvec()
    variances = np.stack([np.diag(view.pose_covariance) for view in views])
    return Stated(np.c_[places - unit * true_places, turned][1:], np.sqrt(variances)[1:])
