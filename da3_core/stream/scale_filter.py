# SPDX-License-Identifier: Apache-2.0
"""The logarithm of a scale that is measured window by window, with noise and outliers: one filter for the metres of
known poses and for those of metric models.

A model that predicts metres errs by a few per cent from window to window. The windows of a map agree about its unit
much better, so what each says about that unit is averaged, and the map follows the average in small steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

GATE = 3.0  # standard deviations: a measurement that is farther off counts ever less
MODEL_METRES_DEVIATION = 0.1  # of the logarithm of a metric model's metres, from window to window, until it is measured
LAST_WINDOWS = 9  # most of which must agree with the average, or it begins anew with theirs
EXPECTED_WINDOWS = 5.0  # for so many windows counts the deviation that was expected
LARGEST_STEP = 0.01  # of the logarithm of what is published, from window to window


class LogScale:
    """Kalman's filter of one logarithm, robust by an outlier gate.

    Attributes:
        value: the logarithm.
        variance: of `value`; infinite before the first measurement.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.value, self.variance = 0.0, np.inf

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite(self.variance))

    def drift(self, variance: float) -> None:
        """What is measured may have moved by so much since."""
        self.variance += variance

    def measure(self, value: float, variance: float) -> None:
        """Take in a measurement. Many that are all far off move the filter there in the end."""
        if not self.is_known:
            self.value, self.variance = value, variance
            return
        error = value - self.value
        variance *= max(1.0, error**2 / (GATE**2 * max(self.variance + variance, 1e-300)))
        gain = self.variance / max(self.variance + variance, 1e-300)
        self.value += gain * error
        self.variance *= 1 - gain


class ModelMetres:
    """How long the unit of a map is, by a model that predicts metres in each of its windows."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin again: another map."""
        self._filter = LogScale()  # map units per metre
        self._last: deque[float] = deque(maxlen=LAST_WINDOWS)
        self._squares, self._windows = EXPECTED_WINDOWS * MODEL_METRES_DEVIATION**2, EXPECTED_WINDOWS

    @property
    def deviation(self) -> float:
        """Standard deviation of the logarithm of the metres; NaN before the first window."""
        return float(np.sqrt(self._filter.variance)) if self._filter.is_known else float("nan")

    def measure(self, log_scale: float, drift: float = 0.0) -> None:
        """Take in a window of which a metre is so many map units, as logarithm.

        Args:
            drift: variance of the logarithm that the map's unit has gained since the last window.
        """
        noise = self._squares / self._windows
        self._last.append(log_scale)
        median = float(np.median(self._last))
        if len(self._last) > LAST_WINDOWS / 2 and abs(median - self._filter.value) > GATE * np.sqrt(noise):
            self._filter.clear()  # what it began with was an outlier
            self._filter.measure(median, noise / len(self._last))
            return
        self._squares += min((log_scale - median) ** 2, GATE**2 * noise)
        self._windows += 1
        self._filter.drift(drift)
        self._filter.measure(log_scale, noise)

    def step(self, largest: float = LARGEST_STEP) -> float:
        """The logarithm by which the map's unit is to change now so that it becomes the metre, which it then has."""
        step = float(np.clip(-self._filter.value, -largest, largest))
        self._filter.value += step
        self._last = deque((value + step for value in self._last), LAST_WINDOWS)
        return step


def log_metres(log_scales: Iterable[float]) -> float:
    """Metres per map unit, as logarithm, by all windows of a map, of each of which a metre is so many map units."""
    metres = ModelMetres()
    for log_scale in log_scales:
        metres.measure(log_scale)
    return metres.step(np.inf)
