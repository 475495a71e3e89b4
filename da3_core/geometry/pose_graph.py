# SPDX-License-Identifier: Apache-2.0
"""Windows and frames adjusted together, so that every window's say about every frame counts.

A window (one inference) has a world and a unit of its own; it says of each of its frames where its camera is and how
large its depth is. One such statement is a sighting. Unknown are where every window lies in the map (seven numbers: its
rotation, translation and log scale) and what is true of every frame (seven: its camera and the log scale of its depth).
A sighting errs in three ways, each by its own spread: the camera's rotation, its centre (relative to depth), and the
log scale of depth. The spreads are measured on the sightings themselves, so cameras and depth count for what they are
worth: depth says how long a window's unit is, and so do the distances between its cameras.

Gauss-Newton with Cauchy's weights. What a frame's seven numbers have to do with each other is diagonal, so frames are
eliminated, and the equations of the windows alone are solved: dense where they are few, sparse where they are many.
(B. Triggs et al., Bundle Adjustment - A Modern Synthesis, 2000; similarities as in H. Strasdat et al., RSS 2010.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.geometry.similarity import Similarity

CAUCHY_WIDTH = 3.0  # errors of so many spreads and more count ever less
DENSE_UP_TO_WINDOWS = 48
CONVERGED = 0.01
LARGEST_STEP = 0.5  # radians, and logarithm of a scale
PRIOR_SIGHTINGS = 5.0  # for so many counts the spread that was expected, against those that are measured

_SIZE = 7  # three of rotation, three of place, one of scale
_KIND = [0, 0, 0, 1, 1, 1, 2]


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a sighting: of its rotation in radians, its centre relative to depth, by axis, and the
    logarithm of its depth."""

    rotation: float = 0.01
    centre: float = 0.01
    log_depth: float = 0.02


SMALLEST_SPREAD = Spread(1e-8, 1e-8, 1e-8)  # numbers are float32, rounded by 6e-8 of themselves at most


@dataclass(frozen=True, eq=False)
class Sightings:
    """What windows say about frames, `K` times.

    Attributes:
        window, frame: `(K,)` int64 their numbers.
        rotation: `(K, 3, 3)` of the camera to the window's world.
        centre: `(K, 3)` of the camera there, in the window's unit.
        depth: `(K,)` typical depth of the view in the window's unit, to which errors of the centre are relative.
        log_ratio: `(K,)` logarithm of the depth that the window says over the depth that the frame is known by.
        spreads: `(K, 3)` how many spreads of rotation, centre and log depth each errs by, infinite where it says
            nothing; None for one of each.
    """

    window: np.ndarray
    frame: np.ndarray
    rotation: np.ndarray
    centre: np.ndarray
    depth: np.ndarray
    log_ratio: np.ndarray
    spreads: np.ndarray | None = None

    @property
    def say_depth(self) -> np.ndarray:
        """`(K,)` bool."""
        return np.ones(len(self.depth), bool) if self.spreads is None else np.isfinite(self.spreads[:, 2])

    def deviations(self, spread: Spread) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(K,)` each: of rotation, centre in the window's unit, and log depth."""
        one = np.ones((len(self.depth), 3)) if self.spreads is None else self.spreads
        return spread.rotation * one[:, 0], spread.centre * self.depth * one[:, 1], spread.log_depth * one[:, 2]


def spreads_of(says_depth: np.ndarray) -> np.ndarray | None:
    """`Sightings.spreads` of one window's sightings, of which `(N,)` some say nothing of depth. Where none does, all
    say that it is as expected: something must hold the window's scale."""
    if says_depth.all() or not says_depth.any():
        return None
    spreads = np.ones((len(says_depth), 3))
    spreads[~says_depth, 2] = np.inf
    return spreads


@dataclass(frozen=True, eq=False)
class Places:
    """Where `M` windows or frames are: their axes and origins in the map, and map units per unit of theirs.

    Attributes:
        rotation: `(M, 3, 3)`.
        origin: `(M, 3)`.
        log_scale: `(M,)`: of a frame, of the depth that it is known by.
    """

    rotation: np.ndarray
    origin: np.ndarray
    log_scale: np.ndarray

    @classmethod
    def of(cls, similarities: list[Similarity]) -> Places:
        return cls(
            np.stack([each.rotation for each in similarities]),
            np.stack([each.translation for each in similarities]),
            np.log([each.scale for each in similarities]),
        )

    def __len__(self) -> int:
        return len(self.log_scale)

    def __getitem__(self, index: int) -> Similarity:
        return Similarity(float(np.exp(self.log_scale[index])), self.rotation[index], self.origin[index])

    def moved(self, step: np.ndarray) -> Places:
        """By `step` `(M, 7)`: small rotation vector in map axes, translation, log scale."""
        half = _cross(step[:, :3] / 2)  # of the quaternion (half, 1), not normalized
        turn = np.eye(3) + 2 / (1 + (step[:, :3] ** 2).sum(1) / 4)[:, None, None] * (half + half @ half)
        return Places(turn @ self.rotation, self.origin + step[:, 3:6], self.log_scale + step[:, 6])


@dataclass(frozen=True, eq=False)
class ScalePriors:
    """What is known of the log scales of the windows from elsewhere: `mean` and `deviation` `(W,)`; infinite where
    nothing is."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def none(cls, windows: int) -> ScalePriors:
        return cls(np.zeros(windows), np.full(windows, np.inf))


@dataclass(frozen=True, eq=False)
class _Errors:
    """Of all sightings, in spreads, with the weights `(K,)` that robustness leaves them; and, in map axes and the unit
    of the window, where cameras are and where they are said to be, as seen from the window's origin."""

    rotation: np.ndarray  # (K, 3) in map axes
    centre: np.ndarray  # (K, 3) in map axes
    log_depth: np.ndarray  # (K,)
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    away: np.ndarray  # (K, 3)
    said_away: np.ndarray  # (K, 3)


_Deviations: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # of `Sightings.deviations`


def adjust(
    sightings: Sightings,
    windows: Places,
    frames: Places,
    spread: Spread,
    *,
    fixed_windows: np.ndarray,
    fixed_frames: np.ndarray,
    scale_priors: ScalePriors | None = None,
    steps: int = 20,
    cauchy_width: float = CAUCHY_WIDTH,
    converged: float = CONVERGED,
) -> tuple[Places, Places]:
    """The windows `(W)` and frames `(F)` that the sightings agree on best, from where they are now.

    Args:
        fixed_windows, fixed_frames: `(W,)` and `(F,)` bool, which stay. Something must, or the map may float away.
        scale_priors: what is known of the windows' scales from elsewhere.
        steps: at most so many.
        cauchy_width: in spreads.
        converged: in spreads: the largest change of a window after which nothing more is done.
    """
    priors = scale_priors or ScalePriors.none(len(windows))
    deviations = sightings.deviations(spread)
    for _ in range(steps):
        window_step, frame_step = _step(
            sightings, windows, frames, deviations, fixed_windows, fixed_frames, priors, cauchy_width
        )
        windows = windows.moved(window_step)
        frames = frames if frame_step is None else frames.moved(frame_step)
        if _in_spreads(window_step, windows, deviations) < converged:
            break
    return windows, frames


def measure_spread(sightings: Sightings, windows: Places, frames: Places, expected: Spread) -> Spread:
    """How far sightings of frames that several windows saw are from what was made of them, by the median.

    Every window and every frame took its share of freedom out of the errors, which is given back. Where that leaves
    few, `expected` stands.
    """
    seen = np.bincount(sightings.frame, minlength=len(frames))
    again = seen[sightings.frame] > 1
    count = int(again.sum())
    freedom = count - len(np.unique(sightings.frame[again])) - len(np.unique(sightings.window[again])) + 1
    if not count or freedom <= 0:
        return expected
    errors = _errors(sightings, windows, frames, sightings.deviations(Spread(1, 1, 1)), CAUCHY_WIDTH)
    # The median of the length of three normal numbers is 1.538 deviations, that of the size of one 0.6745.
    measured = (
        np.median(np.linalg.norm(errors.rotation[again], axis=1)) / 1.538,
        np.median(np.linalg.norm(errors.centre[again], axis=1)) / 1.538,
        np.median(np.abs(errors.log_depth[again & sightings.say_depth])) / 0.6745,
    )

    # Down by logarithms, as a spread may be a hundredth or a ten-millionth; up by variances, which is at once.
    prior = PRIOR_SIGHTINGS / (freedom + PRIOR_SIGHTINGS)

    def pooled(value: float, expected: float, smallest: float) -> float:
        unbiased = max(value * float(np.sqrt(count / freedom)), smallest)
        if unbiased > expected:
            return float(np.sqrt((1 - prior) * unbiased**2 + prior * expected**2))
        return float(unbiased ** (1 - prior) * expected**prior)

    names = ("rotation", "centre", "log_depth")
    return Spread(
        *(
            pooled(float(value), getattr(expected, name), getattr(SMALLEST_SPREAD, name))
            for value, name in zip(measured, names, strict=True)
        )
    )


def adjust_and_measure(
    sightings: Sightings,
    windows: Places,
    frames: Places,
    spread: Spread,
    *,
    fixed_windows: np.ndarray,
    fixed_frames: np.ndarray,
    rounds: int = 4,
) -> tuple[Places, Places, Spread]:
    """`adjust` in turn with `measure_spread`."""
    for _ in range(rounds):
        windows, frames = adjust(
            sightings, windows, frames, spread, fixed_windows=fixed_windows, fixed_frames=fixed_frames
        )
        spread = measure_spread(sightings, windows, frames, spread)
    return windows, frames, spread


def _errors(
    sightings: Sightings, windows: Places, frames: Places, deviations: _Deviations, cauchy_width: float
) -> _Errors:
    w, f = sightings.window, sightings.frame
    of_rotation, of_centre, of_log_depth = deviations
    turns = windows.rotation[w]
    said = turns @ sightings.rotation  # (K, 3, 3)
    rotation = _rotation_vectors(said @ frames.rotation[f].transpose(0, 2, 1)) / of_rotation[:, None]
    away = (frames.origin[f] - windows.origin[w]) / np.exp(windows.log_scale[w])[:, None]  # (K, 3)
    said_away = (turns @ sightings.centre[:, :, None])[:, :, 0]
    centre = (away - said_away) / of_centre[:, None]
    log_depth = (windows.log_scale[w] + sightings.log_ratio - frames.log_scale[f]) / of_log_depth

    def weight(squared: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + squared / cauchy_width**2))

    weights = weight((rotation**2).mean(1)), weight((centre**2).mean(1)), weight(log_depth**2)
    return _Errors(rotation, centre, log_depth, weights, away, said_away)


def _in_spreads(step: np.ndarray, windows: Places, deviations: _Deviations) -> float:
    """The largest part of a step `(W, 7)` of windows, in the spreads of their sightings."""
    of_rotation, of_centre, of_log_depth = (each.min() for each in deviations)
    moved = np.abs(step[:, 3:6]).max(1) / np.exp(windows.log_scale)
    largest = np.abs(step[:, :3]).max() / of_rotation, moved.max() / of_centre, np.abs(step[:, 6]).max() / of_log_depth
    return float(max(largest))


def _step(
    sightings: Sightings,
    windows: Places,
    frames: Places,
    deviations: _Deviations,
    fixed_windows: np.ndarray,
    fixed_frames: np.ndarray,
    priors: ScalePriors,
    cauchy_width: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    """`(W, 7)` and `(F, 7)`: one step of Gauss-Newton; None where all frames stay."""
    w, f, count = sightings.window, sightings.frame, len(sightings.window)
    errors = _errors(sightings, windows, frames, deviations, cauchy_width)
    error = np.concatenate([errors.rotation, errors.centre, errors.log_depth[:, None]], 1)  # (K, 7)
    weight = np.stack(errors.weights, 1)[:, _KIND]  # (K, 7)

    # Errors by what moves the window, `(K, 7, 7)`, and by what moves the frame, which is diagonal, `(K, 7)`.
    of_rotation, of_centre, of_log_depth = deviations
    by_place = 1 / (np.exp(windows.log_scale[w]) * of_centre)
    by_window = np.zeros((count, _SIZE, _SIZE))
    by_window[:, [0, 1, 2], [0, 1, 2]] = 1 / of_rotation[:, None]
    by_window[:, 3:6, :3] = _cross(errors.said_away / of_centre[:, None])
    by_window[:, [3, 4, 5], [3, 4, 5]] = -by_place[:, None]
    by_window[:, 3:6, 6] = -errors.away / of_centre[:, None]
    by_window[:, 6, 6] = 1 / of_log_depth

    weighted = weight[:, :, None] * by_window
    window_blocks = _summed(weighted.transpose(0, 2, 1) @ by_window, w, len(windows))  # (W, 7, 7)
    window_side = _summed((error[:, None] @ weighted)[:, 0], w, len(windows))  # (W, 7)
    known = 1 / priors.deviation**2
    window_blocks[:, 6, 6] += known
    window_side[:, 6] += np.where(known > 0, known * (windows.log_scale - priors.mean), 0)
    free = ~fixed_windows
    if fixed_frames.all():
        steps = np.linalg.solve(window_blocks[free], window_side[free][:, :, None])[:, :, 0]
        return _limited(steps, free), None

    by_frame = np.stack([-1 / of_rotation, by_place, -1 / of_log_depth], 1)[:, _KIND]
    frame_diagonal = _summed(weight * by_frame**2, f, len(frames))  # (F, 7)
    frame_side = _summed(weight * by_frame * error, f, len(frames))  # (F, 7)
    coupling = by_frame[:, :, None] * weighted  # (K, 7, 7): frame rows, window columns

    inverse = np.where(fixed_frames[:, None] | (frame_diagonal <= 0), 0, 1 / np.maximum(frame_diagonal, 1e-300))
    side = window_side - _summed(
        ((inverse * frame_side)[f][:, None] @ coupling)[:, 0], w, len(windows)
    )  # what eliminating the frames leaves
    solve = _solve_dense if len(windows) <= DENSE_UP_TO_WINDOWS else _solve_sparse
    steps = solve(window_blocks, coupling, w, f, inverse, side, free) if free.any() else np.empty((0, _SIZE))
    window_step = _limited(steps, free)
    carried = _summed((coupling @ window_step[w][:, :, None])[:, :, 0], f, len(frames))
    return window_step, -inverse * (frame_side + carried)


def _limited(solution: np.ndarray, free: np.ndarray) -> np.ndarray:
    """`(W, 7)` steps of all windows by the solution for those that are `free`. The equations hold nearby; where nothing
    agrees, they would throw a window out of the world."""
    window_step = np.zeros((len(free), _SIZE))
    window_step[free] = -solution
    longest = np.abs(window_step[:, [0, 1, 2, 6]]).max(1, keepdims=True)
    return np.asarray(window_step / np.maximum(longest / LARGEST_STEP, 1))


def _solve_dense(
    blocks: np.ndarray,
    coupling: np.ndarray,
    w: np.ndarray,
    f: np.ndarray,
    inverse: np.ndarray,
    side: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """`(free windows, 7)` solution of the reduced equations."""
    windows, frames = len(blocks), len(inverse)
    pairs = np.zeros((frames, _SIZE, windows, _SIZE))
    pairs[f, :, w] = coupling  # a window shows a frame once
    joint = pairs.reshape(frames * _SIZE, windows * _SIZE)
    reduced = -joint.T @ (inverse.reshape(-1, 1) * joint)
    reduced = reduced.reshape(windows, _SIZE, windows, _SIZE)
    reduced[np.arange(windows), :, np.arange(windows)] += blocks
    kept = np.repeat(free, _SIZE)
    matrix = reduced.reshape(windows * _SIZE, -1)[np.ix_(kept, kept)]
    matrix[np.diag_indices_from(matrix)] *= 1 + 1e-12
    return np.linalg.solve(matrix, side[free].ravel()).reshape(-1, _SIZE)


def _solve_sparse(
    blocks: np.ndarray,
    coupling: np.ndarray,
    w: np.ndarray,
    f: np.ndarray,
    inverse: np.ndarray,
    side: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """As `_solve_dense`, where most windows share no frame."""
    from scipy.sparse import coo_matrix, diags_array
    from scipy.sparse.linalg import spsolve

    windows, frames = len(blocks), len(inverse)
    number = np.cumsum(free) - 1
    inner = np.arange(_SIZE)

    def placed(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> coo_matrix:
        row = (_SIZE * rows[:, None, None] + inner[:, None] + 0 * inner).ravel()
        column = (_SIZE * columns[:, None, None] + 0 * inner[:, None] + inner).ravel()
        return coo_matrix((values.ravel(), (row, column)), (_SIZE * shape[0], _SIZE * shape[1]))

    count = int(free.sum())
    of_free = free[w]
    joint = placed(coupling[of_free], f[of_free], number[w[of_free]], (frames, count)).tocsc()
    own = placed(blocks[free], np.arange(count), np.arange(count), (count, count)).tocsc()
    reduced = own - joint.T @ (diags_array(inverse.ravel()) @ joint)
    assert windows == len(free)
    return np.asarray(spsolve(reduced.tocsc(), side[free].ravel())).reshape(-1, _SIZE)


def _summed(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Sums of the rows of `values` that have the same index."""
    flat = values.reshape(len(values), -1)
    result = np.zeros((count, flat.shape[1]))
    np.add.at(result, index, flat)
    return result.reshape(count, *values.shape[1:])


def _rotation_vectors(rotations: np.ndarray) -> np.ndarray:
    """`(K, 3)` of `(K, 3, 3)`."""
    axes = (rotations - rotations.transpose(0, 2, 1))[:, [2, 0, 1], [1, 2, 0]] / 2  # sine times axis
    cosine = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    if (cosine > 0).all():  # nearly always; half a turn has no sine
        sine = np.linalg.norm(axes, axis=1)
        return np.asarray(axes * (np.arctan2(sine, cosine) / np.maximum(sine, 1e-300))[:, None])
    quaternions = quaternion_from_rotation(rotations)  # (K, 4), scalar last
    quaternions = np.where(quaternions[:, 3:] < 0, -quaternions, quaternions)
    sine = np.linalg.norm(quaternions[:, :3], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternions[:, 3:])
    return np.asarray(quaternions[:, :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2))


def _cross(vectors: np.ndarray) -> np.ndarray:
    """`(K, 3, 3)` matrices that multiply as `vectors` `(K, 3)` do in the cross product."""
    matrices = np.zeros((len(vectors), 3, 3))
    x, y, z = vectors.T
    matrices[:, 0, 1], matrices[:, 0, 2], matrices[:, 1, 2] = -z, y, -x
    matrices[:, 1, 0], matrices[:, 2, 0], matrices[:, 2, 1] = z, -y, x
    return matrices
