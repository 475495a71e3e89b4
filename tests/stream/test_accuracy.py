# SPDX-License-Identifier: Apache-2.0
"""A short version of `benchmarks/streams.py`: streams with disturbances, held beside published recipes on the same
answers of the model. The limits leave room for the seeds; the table is in docs/accuracy.md."""

from collections.abc import Sequence

import numpy as np
import pytest
from stream_lab.measures import Measures, measure
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.recipes import RECIPES, join
from stream_lab.runs import known_metres, live, recorded
from stream_lab.worlds import Walk, walk

FRAMES, STEP_M = 120, 0.08
SEEDS = (31, 32)


@pytest.fixture(scope="module")
def hall() -> Walk:
    return walk("hall", FRAMES, STEP_M, seed=7)


def mean_error_m(measured: Sequence[Measures]) -> float:
    return float(np.mean([each.ate_m for each in measured]))


@pytest.mark.parametrize(
    "case",
    ["white 5 %", "real", "real, misleading confidence", "smooth 5 % by window", "smooth 5 % by view", "soft"],
)
def test_no_published_recipe_is_better_by_more_than_a_twentieth(hall: Walk, case: str) -> None:
    ours: list[Measures] = []
    theirs: dict[str, list[Measures]] = {name: [] for name in RECIPES}
    for seed in SEEDS:
        model = DisturbedModel(hall, CASES[case], seed)
        joined = live(model, hall, 8, 4)
        ours.append(measure(joined.cameras, joined.depth, hall.camera_to_world, hall.depth_m))
        for name, measured in theirs.items():
            cameras, depth = join(model.windows, FRAMES, name)
            measured.append(measure(cameras, depth, hall.camera_to_world, hall.depth_m))
    assert mean_error_m(ours) < 1.05 * min(map(mean_error_m, theirs.values())) + 1e-3


def test_what_was_recorded_comes_out_straighter_and_calmer_than_live(hall: Walk) -> None:
    noise = CASES["real"]
    at_once = live(DisturbedModel(hall, noise, 31), hall, 8, 1)
    after = recorded(DisturbedModel(hall, noise, 31), hall, 8, 1)
    live_measures, measures = (
        measure(cameras, depth, hall.camera_to_world, hall.depth_m)
        for cameras, depth in ((at_once.cameras, at_once.depth), after)
    )
    assert measures.ate_m < 0.95 * live_measures.ate_m < 0.04
    assert measures.flicker < live_measures.flicker < 0.006


def test_an_export_of_a_session_is_straighter_and_calmer_than_what_was_published(hall: Walk) -> None:
    joined = live(DisturbedModel(hall, CASES["real"], 33), hall, 8, 1)
    truth = hall.camera_to_world, hall.depth_m
    published = measure(joined.cameras, joined.depth, *truth)
    exported = measure(joined.exported_cameras, joined.exported.depth, *truth)
    assert exported.ate_m < 0.9 * published.ate_m
    assert exported.flicker < 0.8 * published.flicker
    last = joined.results[-1].corrected[-1]
    np.testing.assert_allclose(joined.exported.extrinsics[-1], last.world_to_camera, rtol=1e-5)


def test_known_poses_give_steady_metres(hall: Walk) -> None:
    followed = [known_metres(DisturbedModel(hall, CASES["real"], seed), hall, 8, 4) for seed in SEEDS]
    assert np.median([each.error for each in followed]) == pytest.approx(0, abs=0.02)
    assert np.median(np.abs(np.diff([each.error for each in followed], axis=1))) < 0.015
    assert all(0 < each.deviation[-1] < 0.05 for each in followed)
    held = np.concatenate([np.abs(each.error) <= each.deviation for each in followed])
    assert 0.4 < held.mean() < 0.95, "what is stated is one standard deviation"


def test_noise_of_known_poses_does_not_stretch_depth(hall: Walk) -> None:
    model = DisturbedModel(hall, CASES["real"], 31)
    followed = known_metres(model, hall, 8, 4, pose_noise_m=0.1, pose_noise_deg=1.0)
    assert abs(np.median(followed.error[4:])) < 0.15
