# SPDX-License-Identifier: Apache-2.0
"""Windows that see frames, exactly or not, are adjusted to where the truth is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.geometry import pose_graph
from da3_core.geometry.pose_graph import Places, ScalePriors, Sightings, Spread, adjust, measure_spread

FRAMES, SIZE, STRIDE = 30, 6, 2
DEPTH = 5.0
EXACT = Spread(1e-4, 1e-4, 1e-4)


def places(rng: np.random.Generator, count: int) -> Places:
    rotation = Rotation.random(count, random_state=int(rng.integers(1 << 31))).as_matrix()
    return Places(rotation, rng.normal(size=(count, 3)), rng.uniform(-1, 1, count))


def sightings(windows: Places, frames: Places, spread: Spread, rng: np.random.Generator) -> Sightings:
    """What windows of `SIZE` frames, `STRIDE` apart, say about them, off by `spread`."""
    seen = [(w, f) for w in range(len(windows)) for f in range(w * STRIDE, w * STRIDE + SIZE)]
    w, f = np.array(seen).T
    count = len(seen)
    to_window = windows.rotation[w].transpose(0, 2, 1)
    scale = np.exp(windows.log_scale[w])
    turns = Rotation.from_rotvec(spread.rotation * rng.normal(size=(count, 3))).as_matrix()
    away = (to_window @ (frames.origin[f] - windows.origin[w])[:, :, None])[:, :, 0] / scale[:, None]
    depth = DEPTH / scale
    return Sightings(
        window=w,
        frame=f,
        rotation=turns @ to_window @ frames.rotation[f],
        centre=away + spread.centre * depth[:, None] * rng.normal(size=(count, 3)),
        depth=depth,
        log_ratio=frames.log_scale[f] - windows.log_scale[w] + spread.log_depth * rng.normal(size=count),
    )


def world(spread: Spread, seed: int = 0) -> tuple[Sightings, Places, Places]:
    rng = np.random.default_rng(seed)
    windows, frames = places(rng, (FRAMES - SIZE) // STRIDE + 1), places(rng, FRAMES)
    return sightings(windows, frames, spread, rng), windows, frames


def disturbed(true: Places, size: float, seed: int = 5) -> Places:
    step = size * np.random.default_rng(seed).normal(size=(len(true), 7))
    return true.moved(step)


def first_window(windows: Places) -> np.ndarray:
    return np.arange(len(windows)) == 0


def keep_first(moved: Places, true: Places) -> Places:
    return Places(*(np.concatenate([getattr(true, n)[:1], getattr(moved, n)[1:]]) for n in vars(true)))


def test_exact_sightings_bring_windows_and_frames_to_the_truth() -> None:
    seen, windows, frames = world(Spread(0, 0, 0))
    start = keep_first(disturbed(windows, 0.05), windows)
    moved, placed = adjust(
        seen,
        start,
        disturbed(frames, 0.05, 6),
        Spread(),
        fixed_windows=first_window(windows),
        fixed_frames=np.zeros(FRAMES, bool),
        steps=40,
    )
    for found, true in ((moved, windows), (placed, frames)):
        for name in vars(true):
            np.testing.assert_allclose(getattr(found, name), getattr(true, name), atol=1e-5)


def test_few_windows_and_many_are_solved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, windows, frames = world(Spread())
    answers = []
    for most_dense in (0, 1000):
        monkeypatch.setattr(pose_graph, "DENSE_UP_TO_WINDOWS", most_dense)
        answers.append(
            adjust(
                seen,
                windows,
                frames,
                Spread(),
                fixed_windows=first_window(windows),
                fixed_frames=np.arange(FRAMES) == 3,
                steps=3,
            )
        )
    for sparse, dense in zip(*answers, strict=True):
        for name in vars(dense):
            np.testing.assert_allclose(getattr(sparse, name), getattr(dense, name), atol=1e-9)


@pytest.mark.parametrize("true", [Spread(0.02, 0.005, 0.05), Spread(0.001, 0.03, 0.002)])
def test_spreads_are_measured_not_assumed(true: Spread) -> None:
    seen, windows, frames = world(true)
    spread, fixed = Spread(), first_window(windows)
    for _ in range(5):
        windows, frames = adjust(
            seen, windows, frames, spread, fixed_windows=fixed, fixed_frames=np.zeros(FRAMES, bool)
        )
        spread = measure_spread(seen, windows, frames, spread)
    for name in vars(true):
        assert getattr(spread, name) == pytest.approx(getattr(true, name), rel=0.35)


def test_one_gross_sighting_in_a_window_moves_nothing_far() -> None:
    seen, windows, frames = world(Spread(0, 0, 0))
    gross = 20
    rotation, centre = seen.rotation.copy(), seen.centre.copy()
    rotation[gross] = Rotation.from_rotvec([0, 1.0, 0]).as_matrix() @ rotation[gross]
    centre[gross] += 3 * seen.depth[gross]
    moved, _ = adjust(
        replace(seen, rotation=rotation, centre=centre),
        windows,
        frames,
        Spread(0.003, 0.003, 0.003),
        fixed_windows=first_window(windows),
        fixed_frames=np.zeros(FRAMES, bool),
    )
    np.testing.assert_allclose(moved.origin, windows.origin, atol=0.005 * DEPTH)


def test_a_scale_known_from_elsewhere_pulls_by_what_it_is_worth() -> None:
    seen, windows, frames = world(Spread(0, 0, 0))
    priors = ScalePriors(windows.log_scale + 0.1, np.full(len(windows), 0.01))
    moved, _ = adjust(
        seen,
        windows,
        frames,
        EXACT,
        fixed_windows=np.zeros(len(windows), bool),
        fixed_frames=np.zeros(FRAMES, bool),
        scale_priors=priors,
    )
    np.testing.assert_allclose(moved.log_scale, windows.log_scale + 0.1, atol=1e-3)
