# SPDX-License-Identifier: Apache-2.0
"""How long the unit of predictions is in metres, where the cameras' places are known.

The few frames of one window say little about it: their baselines are short, and short baselines are mostly noise. So
windows are joined by what the model says about cameras and depth, as if nothing were known, and the way that comes out
is compared with the known way, which is longer than that of any single window.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import mean_rotation
from da3_core.prediction import Prediction
from da3_core.stream.scale_filter import LogScale
from da3_core.stream.window_graph import LIVE_WINDOWS, WindowGraph, WindowViews

SMALLEST_BASELINE = 0.01  # of the median depth: cameras that are closer together say little about scale
LARGEST_DEVIATION = 0.5  # of the logarithm of a scale: beyond it, baselines say nothing
KNOWN_NOISE_FROM = 2.0  # times the variance that the model's cameras explain: less is not laid on the known ones
MEASURED_FROM_WINDOWS = 4  # so many say how much the model's cameras explain
DRIFT_OF_SLOPE, DRIFT_OF_RESIDUAL = 0.1, 1 / 6  # how much of a random walk's variance shows in either
UNIT_DRIFTS_BY = 4.0  # times the variance that windows show by their neighbours alone: errors in shape last longer
MOST_CORRECTED = 0.7  # of the square of the baselines may be noise


@dataclass(frozen=True)
class Metres:
    """Metres per unit of a prediction as it came, and the standard deviation of its logarithm."""

    per_unit: float
    deviation: float


class KnownScale:
    """Follows the metres per unit from window to window. Memory is bounded."""

    def __init__(self) -> None:
        self._graph: WindowGraph[Hashable] = WindowGraph(LIVE_WINDOWS)
        self._metres = LogScale()  # per unit of the graph
        self.clear()

    def clear(self) -> None:
        """Begin again: the next window has no frame in common with the last one, or its cameras are not known."""
        self._graph.clear()
        self._camera_to_world: dict[Hashable, np.ndarray] = {}
        self._metres.clear()

    def follow(self, names: Sequence[Hashable], camera_to_world: np.ndarray, prediction: Prediction) -> Metres | None:
        """Take in a window whose cameras are at `camera_to_world` `(N, 4, 4)`, metres.

        None where the model knows no cameras, or the known ones have been in one place so far.
        """
        estimated = prediction.aux.get("estimated_extrinsics", prediction.extrinsics)
        if estimated is None:
            return None
        # A prediction that was conditioned on the cameras has been given their unit, window by window.
        alignment = prediction.aux.get("pose_alignment")
        applied = 1.0 if alignment is None else float(alignment.scale)
        some = np.flatnonzero(np.isfinite(estimated[:, :3]).all(axis=(1, 2)))
        names, camera_to_world, chosen = (
            [names[i] for i in some.tolist()],
            camera_to_world[some],
            prediction.views(some),
        )
        views = WindowViews(
            frames=names,
            camera_to_window=invert_rigid(np.asarray(estimated[some], np.float64)),
            depth=chosen.depth * np.float32(applied),
            confidence=chosen.conf,
            sky=chosen.sky,
        )
        place = self._graph.locate(views)
        if place is None:
            self.clear()
        self._graph.add(views, place)
        self._graph.adjust()
        self._camera_to_world |= zip(names, camera_to_world, strict=True)
        self._camera_to_world = {name: self._camera_to_world[name] for name in self._graph.frames}
        self._metres.drift(UNIT_DRIFTS_BY * self._graph.scale_drift())
        if (measured := self._compared()) is not None:
            log_metres, variance = measured
            # The next windows will compare nearly the same way again.
            self._metres.measure(log_metres, variance * (self._graph.windows if self._metres.is_known else 1))
        if not self._metres.is_known:
            return None
        per_unit = float(np.exp(self._metres.value)) * self._graph.window_to_map().scale * applied
        return Metres(per_unit, float(np.sqrt(self._metres.variance)))

    def _compared(self) -> tuple[float, float] | None:
        """Logarithm of metres per unit of the graph, and its variance, by the ways of the cameras kept."""
        known = np.stack([self._camera_to_world[name] for name in self._graph.frames])  # (F, 4, 4)
        seen = np.stack([self._graph.camera_to_map(name) for name in self._graph.frames])
        # The cameras' own orientations turn one way onto the other, also where it is straight.
        rotation = mean_rotation(seen[:, :3, :3] @ known[:, :3, :3].transpose(0, 2, 1))
        x = (known[:, :3, 3] - known[:, :3, 3].mean(0)) @ rotation.T
        y = seen[:, :3, 3] - seen[:, :3, 3].mean(0)
        xx, xy = float((x**2).sum()), float((x * y).sum())
        if xx <= 0 or xy <= 0:
            return None
        slope = xy / xx
        residual = y - slope * x
        variance = float((residual**2).sum()) / (3 * len(x) - 4)  # of one coordinate, in the graph's unit
        relative = variance / xx / slope**2 * _repeats(residual)  # of the slope
        drift = self._drift()
        relative = max(relative, DRIFT_OF_SLOPE * drift * len(x) / (xx * slope**2))
        explained = self._graph.centre_deviation() ** 2 + DRIFT_OF_RESIDUAL * drift
        if variance > KNOWN_NOISE_FROM * explained and self._graph.windows >= MEASURED_FROM_WINDOWS:
            # The rest is noise of the known cameras, which makes their way look longer than it is.
            noise = 3 * (len(x) - 1) * (variance - explained) / slope**2
            corrected = xy / (xx - min(noise, MOST_CORRECTED * xx))
            relative += (0.5 * np.log(corrected / slope)) ** 2  # whose noise it was is never sure
            slope = corrected
        deviation = float(np.sqrt(relative))
        baseline_m = float(np.linalg.norm(known[:, :3, 3] - known[0, :3, 3], axis=1).max())
        median_depth_m = self._graph.median_depth() / slope
        if deviation > LARGEST_DEVIATION or baseline_m < SMALLEST_BASELINE * median_depth_m:
            return None
        return -float(np.log(slope)), deviation**2

    def _drift(self) -> float:
        """Variance of a coordinate of the newest camera as the first one has it, in the graph's unit, by the errors of
        where each window is joined to those before it, which add up. The way follows them: its residuals hardly
        tell."""
        joint = (self._graph.spread.centre * self._graph.median_depth()) ** 2
        return 2 / max(1.0, self._graph.shared_frames()) * joint * (self._graph.windows - 1)


def _repeats(residual: np.ndarray) -> float:
    """How many of `(F, 3)` residuals say the same: neighbours of a way that drifts do."""
    squares = float((residual**2).sum())
    if len(residual) < 3 or squares <= 0:
        return 1.0
    likeness = float(np.clip((residual[1:] * residual[:-1]).sum() / squares, 0, 0.9))
    return (1 + likeness) / (1 - likeness)
