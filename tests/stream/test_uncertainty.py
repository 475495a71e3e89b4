# SPDX-License-Identifier: Apache-2.0
"""The covariance of poses: it grows with the chain of windows, and most errors are within one stated deviation.

`benchmarks/covariance.py` measures the same with more walks and seeds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stream_lab.covariance import Stated, stated
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.runs import make_frames
from stream_lab.worlds import Walk, walk

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.pose_graph import Spread
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.session import Session, SessionOptions
from da3_core.stream.uncertainty import MapUncertainty

WALK, FRAMES = 120, 60  # of the walk that other tests render too
SEEDS = (31, 33)
EMBEDDED = Path(__file__).parents[1] / "data/streams/embedded_walk.npz"  # said of `room_walk(24, seed=5)`


@pytest.fixture(scope="module")
def hall() -> Walk:
    return walk("hall", WALK, 0.08, seed=7)


def in_hall(hall: Walk, case: str, seed: int) -> Stated:
    return stated(DisturbedModel(hall, CASES[case], seed), make_frames(FRAMES), hall.camera_to_world, 8, 4)


@pytest.mark.parametrize("case", ["real", "soft"])
def test_most_errors_of_a_noisy_model_are_within_one_deviation(hall: Walk, case: str) -> None:
    runs = [in_hall(hall, case, seed) for seed in SEEDS]
    positions, rotations = np.mean([run.within() for run in runs], axis=0)
    assert 0.5 <= positions <= 0.9
    assert 0.5 <= rotations <= 0.9


def test_an_exact_model_states_what_numbers_of_32_bits_can_tell(hall: Walk) -> None:
    run = in_hall(hall, "exact", 31)
    assert min(run.within()) >= 0.5
    assert max(run.within()) < 1, "it is not ten times too careful"
    assert run.deviation[-1].max() < 1e-5


def test_it_grows_with_every_window_and_with_the_distance_from_where_they_were_joined() -> None:
    uncertainty, camera = MapUncertainty(), np.eye(4)
    deviations = []
    for _ in range(20):
        uncertainty.add(camera[None], depth=3.0, by_matches=False)
        camera = camera.copy()
        camera[2, 3] += 0.5
        deviations.append(np.sqrt(np.diag(uncertainty.pose_covariance(camera, 3.0, Spread()))))
    assert (np.diff(deviations, axis=0) > 0).all()
    assert deviations[-1][2] > 1.5 * deviations[-1][0], "ahead, where the expected errors of scale add to it"


class EmbeddedModel:
    """What the embedded model said about windows of four frames, every second one new."""

    def __init__(self) -> None:
        with np.load(EMBEDDED) as file:
            self.said: dict[str, Any] = dict(file)

    def __call__(self, frames: Sequence[Frame]) -> Prediction:
        window = frames[0].stamp_ns // 2
        return Prediction(
            depth=self.said["depth"][window].astype(np.float32),
            conf=self.said["confidence"][window].astype(np.float32),
            extrinsics=self.said["world_to_camera"][window],
            intrinsics=np.tile(self.said["intrinsics"], (len(frames), 1, 1)),
            aux={"feature_poses": None},  # they come from matches
        )


def test_most_errors_of_the_embedded_model_are_within_one_deviation() -> None:
    """Its windows agree far better than they are right, since they find the same matches."""
    model = EmbeddedModel()
    camera_to_world = model.said["camera_to_world"]
    run = stated(model, make_frames(len(camera_to_world)), camera_to_world, 4, 2)
    positions, rotations = run.within()
    assert 0.5 <= positions <= 0.9
    assert rotations >= 0.5
    assert (np.diff(run.deviation[4::4].mean(1)) > 0).all()


def test_given_poses_have_none_and_a_map_after_them_starts_small(hall: Walk) -> None:
    frames = make_frames(6, invert_rigid(hall.camera_to_world[:6]))
    session = Session(DisturbedModel(hall, CASES["real"], 1), SessionOptions("auto", 1.0))
    assert all(view.pose_covariance is None for view in session.process(frames[:4]).views)
    unknown = [Frame(frame.image, frame.stamp_ns) for frame in make_frames(8)[4:]]
    joined = session.process([*frames[2:4], *unknown[:2]])
    new = [view for view in joined.views if view.is_new]
    assert all(0 < np.sqrt(view.pose_covariance[0, 0]) < 0.5 for view in new)
