# SPDX-License-Identifier: Apache-2.0
"""How far from the truth the cameras of a map may be: every window that is joined to those before it adds its share.

A window is placed by the views that it shares with the map, each of which errs by the measured `Spread`. What is
joined later moves with it: an error of its place by as much, errors of its rotation and scale the more the farther
away it is. So the moments of where windows were joined say how uncertain every later place is, with constant memory.

Windows whose cameras come from matches between their images find the same matches in the views that they share, and
make the same mistakes, of which their agreement says nothing. These grow with the way and with the angle turned.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from da3_core.geometry.pose_graph import Spread

# Of matches, by axis; measured with the embedded model on four walks through the synthetic room.
ERROR_OF_WAY, ERROR_OF_TURN = 0.06, 0.015
# Neighbouring windows err alike, which the moments do not know: by as much more, measured by benchmarks/covariance.py.
ALIKE = 1.1**2  # of variances
STEP, STEP_RAD = 0.02, 0.05  # of depth; smaller motions of a camera count once they have added up


class MapUncertainty:
    """Of the places in one map, in its unit and axes, relative to its first camera."""

    def __init__(self) -> None:
        self._count = 0.0  # of errors of the size of a single sighting that have added up
        self._squared_depth = 0.0  # sum, as the errors of places are relative to depth
        self._baseline = 0.0  # sum of the variances of the shared cameras' places, relative to depth
        self._moment = np.zeros(3)  # sum of where windows were joined
        self._second_moment = np.zeros((3, 3))
        self._way = self._turn = 0.0  # by windows whose cameras come from matches
        self._last: np.ndarray | None = None  # camera that these lead to

    def add(self, camera_to_map: np.ndarray, depth: float, by_matches: bool) -> None:
        """A window is joined to the map by views of cameras `(N, 4, 4)`, of that typical `depth`; at first, by one.

        Args:
            by_matches: its cameras come from matches between the images.
        """
        places = camera_to_map[:, :3, 3]
        share, place = 1 / len(places), places.mean(0)
        self._count += share
        self._squared_depth += share * depth**2
        self._baseline += share * float(places.var(0).sum()) / depth**2
        self._moment += share * place
        self._second_moment += share * np.outer(place, place)
        way, turn = self._since_last(camera_to_map[-1])
        if way > STEP * depth or turn > STEP_RAD or self._last is None or not by_matches:
            self._way, self._turn = self._way + way, self._turn + turn
            self._last = camera_to_map[-1] if by_matches else None

    def led_back(self, camera_to_map: np.ndarray, depth: float) -> MapUncertainty:
        """Where a loop leads back to a camera `(4, 4)` near which it was this, by one more window."""
        closed = deepcopy(self)
        closed._last = None
        closed.add(camera_to_map[None], depth, False)
        return closed

    def pose_covariance(self, camera_to_map: np.ndarray, depth: float, spread: Spread) -> np.ndarray:
        """`(6, 6)` of a camera `(4, 4)` that one more sighting tells: of its position, then of its rotation in radians
        about the axes of the map."""
        place = camera_to_map[:3, 3]
        crossed = np.outer(self._moment, place)
        arms = self._second_moment - crossed - crossed.T + self._count * np.outer(place, place)  # (3, 3)
        across = np.trace(arms) * np.eye(3) - arms
        # The depths of the shared views and the distances between their cameras both tell the scale.
        scale_information = 1 / spread.log_depth**2 + self._baseline / self._count / spread.centre**2
        position = spread.rotation**2 * across + arms / scale_information
        position += spread.centre**2 * (self._squared_depth + depth**2) * np.eye(3)
        rotation = spread.rotation**2 * (self._count + 1) * np.eye(3)
        position, rotation = ALIKE * position, ALIKE * rotation
        way, turn = self._since_last(camera_to_map)
        position += (ERROR_OF_WAY * (self._way + way)) ** 2 * np.eye(3)
        rotation += (ERROR_OF_TURN * (self._turn + turn)) ** 2 * np.eye(3)
        covariance = np.zeros((6, 6))
        covariance[:3, :3], covariance[3:, 3:] = position, rotation
        return covariance

    def _since_last(self, camera_to_map: np.ndarray) -> tuple[float, float]:
        """The way and the angle that matches led a camera since they last counted."""
        if self._last is None:
            return 0.0, 0.0
        cosine = (np.trace(self._last[:3, :3].T @ camera_to_map[:3, :3]) - 1) / 2
        way = np.linalg.norm(camera_to_map[:3, 3] - self._last[:3, 3])
        return float(way), float(np.arccos(np.clip(cosine, -1, 1)))
