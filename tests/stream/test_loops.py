# SPDX-License-Identifier: Apache-2.0
"""A walk that comes back to a place is closed there; one that comes to a place that only looks the same is not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from stream_lab.measures import measure
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.runs import recorded
from stream_lab.worlds import CORRIDOR_APART_M, walk

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.loops import find_candidates

SIZE, STRIDE = 8, 4


def test_a_lap_is_closed_where_it_ends() -> None:
    lap = walk("hall", 240, 0.23, seed=3)
    measures = [
        measure(*recorded(DisturbedModel(lap, CASES["real"], 3), lap, SIZE, STRIDE, loops=loops), *truth)
        for truth in [(lap.camera_to_world, lap.depth_m)]
        for loops in (False, True)
    ]
    assert measures[1].ate_m < 0.5 * measures[0].ate_m
    assert measures[1].ate_m < 0.2
    assert measures[1].end_gap_m < 0.25 < measures[0].end_gap_m


class Deceived:
    """A model that takes two corridors for one, where it sees both at once."""

    def __init__(self, model: DisturbedModel, camera_to_world: np.ndarray) -> None:
        self._model, self._camera_to_world = model, camera_to_world
        self.times_deceived = 0

    def __call__(self, frames: Sequence[Frame]) -> Prediction:
        prediction = self._model(frames)
        chosen = [frame.stamp_ns for frame in frames]
        across = self._camera_to_world[chosen, 1, 3]
        if not (across.min() < 1 and across.max() > CORRIDOR_APART_M - 1):
            return prediction
        self.times_deceived += 1
        # The true offset of the one corridor from the other, in the answer's world and unit, is left out.
        world_to_camera = prediction.extrinsics.astype(np.float64)
        camera_to_answer = invert_rigid(world_to_camera)
        truth = self._camera_to_world[chosen]
        turn = camera_to_answer[0, :3, :3] @ truth[0, :3, :3].T
        apart = np.linalg.norm(camera_to_answer[0, :3, 3] - camera_to_answer[-1, :3, 3])
        unit = apart / np.linalg.norm(truth[0, :3, 3] - truth[-1, :3, 3])
        shift = unit * turn @ np.array([0, CORRIDOR_APART_M, 0])
        camera_to_answer[across > CORRIDOR_APART_M / 2, :3, 3] -= shift
        return replace(prediction, extrinsics=invert_rigid(camera_to_answer).astype(np.float32))


def test_corridors_that_look_the_same_are_not_joined() -> None:
    both = walk("corridors", 260, 0.3, seed=1)
    model = Deceived(DisturbedModel(both, CASES["real"], 1), both.camera_to_world)
    cameras, depth = recorded(model, both, SIZE, STRIDE, loops=True)
    assert model.times_deceived > 3
    joined = measure(cameras, depth, both.camera_to_world, both.depth_m)
    plain = measure(
        *recorded(DisturbedModel(both, CASES["real"], 1), both, SIZE, STRIDE), both.camera_to_world, both.depth_m
    )
    assert joined.ate_m == pytest.approx(plain.ate_m, rel=0.05)


def test_views_that_look_like_none_before_are_no_candidates() -> None:
    rng = np.random.default_rng(0)
    ways = np.cumsum(rng.normal(size=(400, 64)), axis=0)  # ever farther away
    there = find_candidates(ways, 8)
    assert all(candidate.likeness < 0.99 for candidate in there)
    back = find_candidates(np.concatenate([ways, ways[:16] + 0.1 * rng.normal(size=(16, 64))]), 8)
    assert back[0].later >= 400
    assert back[0].earlier < 16
    assert find_candidates(ways[:20], 8) == []
