# SPDX-License-Identifier: Apache-2.0
"""Metres that are said anew by every window: what their average is worth, and what outliers do to it."""

import numpy as np
import pytest

from da3_core.stream.scale_filter import LARGEST_STEP, ModelMetres, log_metres

NOISE = 0.05


def said(seed: int, windows: int = 110) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, NOISE, windows)


def test_the_average_is_as_good_as_it_says() -> None:
    errors, deviations = [], []
    for seed in range(50):
        metres = ModelMetres()
        for value in said(seed):
            metres.measure(value)
        errors.append(metres.step(np.inf))
        deviations.append(metres.deviation)
    assert np.sqrt(np.mean(np.square(errors))) < 0.006
    assert 0.5 < np.mean(np.abs(errors) < deviations) < 0.9


@pytest.mark.parametrize("wrong", [(0,), (0, 1), (50, 51, 52, 53), range(0, 110, 20)])
def test_outliers_count_little_wherever_they_are(wrong: tuple[int, ...]) -> None:
    values = said(1)
    values[list(wrong)] += np.log(2)
    assert abs(log_metres(values)) < 0.02


def test_a_map_follows_in_steps_and_is_measured_in_its_new_unit() -> None:
    metres, unit, way = ModelMetres(), 0.3, []
    for value in said(2, 200):
        metres.measure(value + unit)
        step = metres.step()
        assert abs(step) <= LARGEST_STEP
        unit += step
        way.append(unit)
    assert abs(np.mean(way[-50:])) < 0.01


def test_a_unit_that_drifts_is_followed() -> None:
    metres, drift = ModelMetres(), 0.002
    for i, value in enumerate(said(3, 300)):
        metres.measure(value + i * drift, drift**2 * 25)
    assert -metres.step(np.inf) == pytest.approx(300 * drift, abs=0.04)
