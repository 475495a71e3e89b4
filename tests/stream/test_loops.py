# SPDX-License-Identifier: Apache-2.0
"""A walk that comes back to a place is closed there; one that comes to a place that only looks the same is not."""

import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from stream_lab.measures import measure
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.runs import live, recorded
from stream_lab.worlds import CORRIDOR_APART_M, Walk, walk

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame, FrameName
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.loops import find_candidates
from da3_core.stream.session import Session, SessionOptions
from da3_core.stream.uncertainty import MapUncertainty
from da3_core.stream.window_graph import WindowGraph, WindowViews

SIZE, STRIDE = 8, 4


@pytest.fixture(scope="module")
def lap() -> Walk:
    return walk("hall", 280, 0.23, seed=3)


def test_a_lap_is_closed_where_it_ends(lap: Walk) -> None:
    measures = [
        measure(*recorded(DisturbedModel(lap, CASES["real"], 3), lap, SIZE, STRIDE, loops=loops), *truth)
        for truth in [(lap.camera_to_world, lap.depth_m)]
        for loops in (False, True)
    ]
    assert measures[1].ate_m < 0.5 * measures[0].ate_m
    assert measures[1].ate_m < 0.2
    assert measures[1].end_gap_m < 0.3 < measures[0].end_gap_m


def test_a_lap_is_closed_while_the_stream_runs_and_what_was_published_stands(lap: Walk) -> None:
    """The record, like a path, is bent; so are the windows that come after."""
    runs = [live(DisturbedModel(lap, CASES["real"], 3), lap, SIZE, STRIDE, loops=each) for each in (False, True)]
    before, after = runs
    bends = [i for i, result in enumerate(after.results) if result.bend]
    assert bends
    first_bent = min(view.number for view in after.results[bends[0]].views if view.is_new)
    np.testing.assert_array_equal(after.cameras[:first_bent], before.cameras[:first_bent])
    truth = lap.camera_to_world, lap.depth_m
    open_end, closed = (measure(each.exported_cameras, each.exported.depth, *truth) for each in runs)
    assert closed.ate_m < 0.5 * open_end.ate_m
    assert closed.scale_spread < open_end.scale_spread, "depth goes with the poses"
    ends = [each.cameras[-1, :3, 3] - each.cameras[0, :3, 3] for each in runs]
    assert not np.allclose(*ends, rtol=0.02), "the newest windows lie in the bent map"


def test_loops_may_be_looked_for_beside_the_stream(lap: Walk) -> None:
    """On a way there and back."""
    model, threads = DisturbedModel(lap, CASES["real"], 3), set()

    def infer(frames: Sequence[Frame]) -> Prediction:
        threads.add(threading.current_thread().name)
        return model(frames)

    session = Session(model, SessionOptions("auto", 1.0), LiveLoops(infer, in_background=True))
    frames = [Frame(np.zeros((48, 64, 3), np.uint8), stamp_ns=i) for i in [*range(52), *range(51, 0, -1)]]
    bent = 0
    for end in range(SIZE, len(frames) + 1, STRIDE):
        bent += session.process(frames[end - SIZE : end]).bend is not None
        for thread in threading.enumerate():
            if thread.name == "da3_loops":
                thread.join()
    assert bent
    assert threads == {"da3_loops"}


def test_a_long_stream_is_remembered_in_bounded_memory() -> None:
    """Hundreds of views, none of which looks like another."""
    rng = np.random.default_rng(0)
    loops = LiveLoops(lambda frames: pytest.fail("nothing looks alike"), in_background=False)
    graph: WindowGraph[FrameName] = WindowGraph(8)
    depth, image, sizes = np.full((2, 24, 32), 2.0, np.float32), np.zeros((24, 32, 3), np.uint8), []
    names = [FrameName(i, i, "camera") for i in range(440)]
    tracemalloc.start()
    for name, after in pairwise(names):
        cameras = np.tile(np.eye(4), (2, 1, 1))
        cameras[:, 0, 3] = name.number, after.number
        views = WindowViews([name, after], cameras, depth, None, None)
        graph.add(views, graph.locate(views))
        token = rng.normal(size=64)
        loops.follow(graph, MapUncertainty(), after, Frame(image), token, window=2, unit="first")
        if after.number in (220, 439):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] < 1.1 * sizes[0]


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


@pytest.mark.parametrize(("world", "case"), [(2, "real"), (3, "soft")])
def test_a_running_stream_does_not_join_them_either(world: int, case: str) -> None:
    both = walk("corridors", 260, 0.3, seed=world)
    model = Deceived(DisturbedModel(both, CASES[case], 10 + world), both.camera_to_world)
    results = live(model, both, SIZE, STRIDE, loops=True).results
    assert model.times_deceived > 3
    assert not any(result.bend for result in results)


def test_views_that_look_like_none_before_are_no_candidates() -> None:
    rng = np.random.default_rng(0)
    ways = np.cumsum(rng.normal(size=(400, 64)), axis=0)  # ever farther away
    there = find_candidates({i: ways[i] for i in range(0, 400, 4)}, 8)
    assert all(candidate.likeness < 0.99 for candidate in there)
    ways = np.concatenate([ways, ways[:16] + 0.1 * rng.normal(size=(16, 64))])
    back = find_candidates({i: ways[i] for i in range(0, 416, 4)}, 8)
    assert back[0].later >= 400
    assert back[0].earlier < 16
    assert find_candidates({i: ways[i] for i in range(0, 20, 4)}, 8) == []
