# SPDX-License-Identifier: Apache-2.0
"""New frames are expected where the camera was going, as far as that has turned out right before."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity
from da3_core.stream.frame import Frame, FrameName, RigPlace
from da3_core.stream.steady_motion import SteadyMotion
from da3_core.stream.window_graph import LIVE_WINDOWS, WindowGraph, WindowViews

SIZE, FRAMES, STEP_NS = 6, 50, 33_000_000
IMAGE = np.zeros((2, 2, 3), np.uint8)


def walk_of(jitter_m: float) -> np.ndarray:
    """`(FRAMES, 4, 4)` ahead and slowly to the left, each camera `jitter_m` off."""
    rng, cameras = np.random.default_rng(1), np.tile(np.eye(4), (FRAMES, 1, 1))
    cameras[:, :3, :3] = Rotation.from_rotvec(np.outer(np.arange(FRAMES), [0, 0.01, 0])).as_matrix()
    cameras[:, 2, 3] = 0.1 * np.arange(FRAMES)
    cameras[:, :3, 3] += jitter_m * rng.normal(size=(FRAMES, 3))
    return cameras


def published(
    cameras: np.ndarray, noise_m: float, frames: Sequence[Frame], motion: SteadyMotion | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Errors `(N,)` in metres of new cameras as their windows say, and as the motion has them, beside those of the
    frames before them: where the map drifts, all of it does."""
    rng, motion = np.random.default_rng(2), motion or SteadyMotion()
    graph: WindowGraph[FrameName] = WindowGraph(LIVE_WINDOWS)
    names = [FrameName(i, frame.stamp_ns, frame.camera) for i, frame in enumerate(frames)]
    said, steadied = [], []
    for start in range(FRAMES - SIZE + 1):
        window = range(start, start + SIZE)
        noisy = cameras[window.start : window.stop].copy()
        noisy[:, :3, 3] += noise_m * rng.normal(size=(SIZE, 3))
        views = WindowViews([names[i] for i in window], noisy, np.full((SIZE, 4, 4), 5.0), None, None)
        graph.add(views, Similarity.identity())
        if start:
            graph.adjust()
            new = [False] * (SIZE - 1) + [True]
            found = motion.follow(graph, frames[window.start : window.stop], views.frames, new)
            in_map = np.stack([graph.camera_to_map(name)[:3, 3] for name in views.frames])
            drift = (in_map - cameras[window.start : window.stop, :3, 3])[:-1].mean(0)
            last, true = views.frames[-1], cameras[window.stop - 1, :3, 3] + drift
            said.append(np.linalg.norm(in_map[-1] - true))
            steadied.append(np.linalg.norm((found[last][:3, 3] if last in found else in_map[-1]) - true))
    return np.array(said), np.array(steadied)


def stamped(step_ns: int = STEP_NS, **more: object) -> list[Frame]:
    return [Frame(IMAGE, stamp_ns=step_ns * i, **more) for i in range(FRAMES)]


def test_a_steady_camera_is_published_nearer_to_where_it_is() -> None:
    said, steadied = published(walk_of(0.0), 0.03, stamped())
    assert np.mean(steadied[15:] ** 2) < 0.6 * np.mean(said[15:] ** 2)


def test_a_camera_that_jerks_stays_where_its_window_has_it() -> None:
    said, steadied = published(walk_of(0.2), 0.0, stamped())
    np.testing.assert_allclose(steadied, said, atol=1e-9)
    said, steadied = published(walk_of(0.2), 0.03, stamped())
    assert np.mean(steadied**2) < 1.1 * np.mean(said**2)


@pytest.mark.parametrize("frames", [stamped(0), stamped(rig=RigPlace(np.eye(4), 0))], ids=["no stamps", "rig"])
def test_nothing_is_expected_without_time_or_of_a_rig(frames: list[Frame]) -> None:
    said, steadied = published(walk_of(0.0), 0.03, frames)
    np.testing.assert_array_equal(steadied, said)


def test_one_jump_of_a_steady_camera_is_published_as_it_is() -> None:
    cameras = walk_of(0.0)
    cameras[40:, :3, 3] += [1.0, 0, 0]
    said, steadied = published(cameras, 0.01, stamped())
    jump = 40 - SIZE
    assert steadied[jump] == pytest.approx(said[jump], abs=1e-9)
    assert steadied[jump:].max() < 0.1


def test_orientations_are_steadied_too() -> None:
    rng, graph, motion = np.random.default_rng(3), WindowGraph(LIVE_WINDOWS), SteadyMotion()
    cameras, frames = walk_of(0.0), stamped()
    names = [FrameName(i, frame.stamp_ns, frame.camera) for i, frame in enumerate(frames)]
    said, steadied = [], []
    for start in range(FRAMES - SIZE + 1):
        noisy = cameras[start : start + SIZE].copy()
        noisy[:, :3, :3] = noisy[:, :3, :3] @ Rotation.from_rotvec(0.02 * rng.normal(size=(SIZE, 3))).as_matrix()
        chosen = names[start : start + SIZE]
        graph.add(WindowViews(chosen, noisy, np.full((SIZE, 4, 4), 5.0), None, None), Similarity.identity())
        if start:
            graph.adjust()
            found = motion.follow(graph, frames[start : start + SIZE], chosen, [False] * (SIZE - 1) + [True])
            off = invert_rigid(cameras[start + SIZE - 1])[:3, :3]
            said.append(Rotation.from_matrix(off @ graph.camera_to_map(chosen[-1])[:3, :3]).magnitude())
            steadied.append(Rotation.from_matrix(off @ found[chosen[-1]][:3, :3]).magnitude())
    assert np.sqrt(np.mean(np.square(steadied[15:]))) < 0.95 * np.sqrt(np.mean(np.square(said[15:])))
