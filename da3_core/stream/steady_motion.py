# SPDX-License-Identifier: Apache-2.0
"""Where a new frame is to be expected: on the line through the frames about it, as steadily as the camera moves.

What is published at once rests on the one window that shows it so far, and carries that window's error of a single
camera. Frames before it have been seen by several, and cameras have inertia. How far that helps differs: a wheeled
robot moves more steadily than a hand. So it is measured: what was expected of earlier frames, and what their first
window said, are held against where they turned out to be by the other windows. What agreed with those counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.quaternions import rotation_from_quaternion
from da3_core.stream.frame import Frame, FrameName
from da3_core.stream.window_graph import WindowGraph

NEIGHBOURS, FEWEST_NEIGHBOURS = 7, 3
FORGOTTEN = 0.02  # of what was measured, with every frame
UNSURE_FRAMES = 5.0  # so many must have been measured until half of what they say is believed
GATE = 3.0  # times the usual distance between what is said and what is expected: a jerk, which is not smoothed


@dataclass(frozen=True, eq=False)
class _Guess:
    """Of a frame: its camera `(4, 4)` as its first window said, and how far from there it was expected, as its axes
    have it: `(2, 3)` in map units and as half a rotation vector. `after` counts the new frames that came with it, after
    it, and `windows` those that have shown it."""

    said: np.ndarray
    away: np.ndarray
    after: int
    windows: int = 1


class SteadyMotion:
    """Of the cameras of one map. Memory is that of a few numbers for each frame of a window."""

    def __init__(self) -> None:
        self._guesses: dict[FrameName, _Guess] = {}
        self._trust: dict[int, np.ndarray] = {}  # by `after`: `(2, 3)` of agreement, squared distance, and frames

    def bend(self) -> None:
        """The map was bent, and with it what guesses were about."""
        self._guesses.clear()

    def follow(
        self, graph: WindowGraph[FrameName], frames: Sequence[Frame], names: Sequence[FrameName], new: Sequence[bool]
    ) -> dict[FrameName, np.ndarray]:
        """Cameras `(4, 4)` in the map of the frames of a window that are new, where anything can be expected of them.

        Args:
            graph: that has placed the window.
            new: of each frame whether it was never seen before.
        """
        self._learn(graph, names)
        if any(frame.rig is not None for frame in frames):
            return {}  # cameras that are fixed to each other stay so
        steadied = {}
        placed = [i for i, name in enumerate(names) if name in graph]
        for source in dict.fromkeys(frames[i].source or frames[i].camera for i in placed):
            track = [i for i in placed if (frames[i].source or frames[i].camera) == source]
            cameras = np.stack([graph.camera_to_map(names[i]) for i in track])
            times = np.array([names[i].stamp_ns for i in track], np.int64)
            if (np.diff(times) <= 0).any():
                continue
            seconds = (times - times[-1]) / 1e9
            for k in range(len(track)):
                if new[track[k]] and (away := _expected(cameras, seconds, k)) is not None:
                    guess = _Guess(cameras[k], away, after=len(track) - 1 - k)
                    self._guesses[names[track[k]]] = guess
                    steadied[names[track[k]]] = self._between(guess)
        return steadied

    def _learn(self, graph: WindowGraph[FrameName], names: Sequence[FrameName]) -> None:
        """From frames that the newest window does not show any more: most windows that show them have spoken."""
        for name, guess in list(self._guesses.items()):
            if name in names:
                self._guesses[name] = _Guess(guess.said, guess.away, guess.after, guess.windows + 1)
                continue
            del self._guesses[name]
            if name not in graph or guess.windows < 2:
                continue
            # Where it is by now is what its first window said too; the others alone have it farther from there.
            others = guess.windows / (guess.windows - 1) * _away(guess.said, graph.camera_to_map(name)[None])[0]
            trust = self._trust.get(guess.after, np.zeros((2, 3)))
            measured = np.stack([(others * guess.away).sum(1), (guess.away**2).sum(1), np.ones(2)], 1)
            self._trust[guess.after] = (1 - FORGOTTEN) * trust + measured

    def _between(self, guess: _Guess) -> np.ndarray:
        """Between what was said and what was expected, the nearer to that which has been more right."""
        agreement, squared, count = self._trust.get(guess.after, np.zeros((2, 3))).T
        share = np.clip(agreement / np.maximum(squared, 1e-300), 0, 1) * count / (count + UNSURE_FRAMES)
        usual = GATE**2 * squared / np.maximum(count, 1)
        away = guess.away * np.where((guess.away**2).sum(1) <= usual, share, 0)[:, None]
        moved = np.eye(4)
        moved[:3, :3] = rotation_from_quaternion(np.append(away[1], np.sqrt(max(0.0, 1 - (away[1] ** 2).sum()))))
        moved[:3, 3] = away[0]
        return np.asarray(guess.said @ moved)


def _expected(cameras: np.ndarray, seconds: np.ndarray, k: int) -> np.ndarray | None:
    """`(2, 3)`, how far from where it is the camera `k` of `(N, 4, 4)` would be in line with its neighbours."""
    order = np.argsort(np.abs(seconds - seconds[k]), kind="stable")[1 : NEIGHBOURS + 1]
    if len(order) < FEWEST_NEIGHBOURS:
        return None
    time, away = seconds[order] - seconds[k], _away(cameras[k], cameras[order])
    centred = time - time.mean()
    mean = away.mean(0)
    slope = np.tensordot(centred, away, axes=1) / (centred**2).sum()
    expected = mean - time.mean() * slope
    return np.asarray(expected) if (expected[1] ** 2).sum() < 0.25 else None


def _away(camera: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`(N, 2, 3)` of other cameras `(N, 4, 4)`, as the axes of one have them: their centres and half their rotation
    vectors, nearly."""
    axes = camera[:3, :3].T
    turned = axes @ others[:, :3, :3]
    halves = (turned - turned.transpose(0, 2, 1))[:, [2, 0, 1], [1, 2, 0]] / 4
    return np.stack([(others[:, :3, 3] - camera[:3, 3]) @ axes.T, halves], axis=1)
