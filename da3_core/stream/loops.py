# SPDX-License-Identifier: Apache-2.0
"""Places that a recorded walk comes back to: found by looks, verified by geometry, told to the graph as a window more.

Views whose class tokens (what the backbone makes of a view as a whole) are as alike as those of views half a window
apart may show one place. Both ends are then inferred together, in one window. What that window says must agree with the
map at either end; surfaces must be seen from both; and the gap that it would close must not be larger than what the
windows in between may have drifted, since two places may look the same. A wrong loop is worse than none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import Prediction
from da3_core.stream.inference import Ahead, in_turn
from da3_core.stream.uncertainty import ERROR_OF_TURN, ERROR_OF_WAY
from da3_core.stream.window_graph import WindowGraph, WindowViews

logger = logging.getLogger(__name__)

FEWEST_WINDOWS_APART = 5  # nearer views are tied by the windows between them well enough
MOST_INFERRED = 0.25  # of the number of windows: so many candidates are looked at
LOOP_EVERY_WINDOWS = 3  # one loop ties the neighbours of its ends too
MOST_DRIFT = 3.0  # standard deviations of what the windows in between may have drifted
MOST_DRIFT_OF_WAY, MOST_DRIFT_OF_WAY_BY_MATCHES = 0.1, 0.18
SEEN_FROM_BOTH = 0.25  # share of the pixels of a view that must meet the surfaces of the other
SAME_SURFACE = 0.1  # of depth
GRID = 24  # pixels on a side that are compared


@dataclass(frozen=True)
class LoopCandidate:
    """Two views, by number, that look alike, the earlier first."""

    earlier: int
    later: int
    likeness: float


@dataclass(frozen=True)
class Drift:
    """Standard deviations of the gap and the turn that tracking between two views may have come to by what windows
    contradict each other, and how far the camera went and turned between them, in all."""

    gap: float
    turn: float
    way: float
    turned: float

    def by_matches(self) -> Drift:
        """Where cameras come from matches between images, whose mistakes are the same in all windows."""
        gap = float(np.hypot(self.gap, np.sqrt(3) * ERROR_OF_WAY * self.way))
        return replace(self, gap=gap, turn=float(np.hypot(self.turn, np.sqrt(3) * ERROR_OF_TURN * self.turned)))


def likeness_of(tokens: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`(...)` cosines between `(..., C)` tokens."""
    lengths = np.linalg.norm(tokens, axis=-1) * np.linalg.norm(other, axis=-1)
    return np.asarray((tokens * other).sum(-1) / np.maximum(lengths, 1e-12))


def key_spacing(window: int) -> int:
    """Every how many views one is compared with others, where a window has so many."""
    return max(1, window // 2)


def find_candidates(tokens: Mapping[int, np.ndarray], window: int) -> list[LoopCandidate]:
    """Pairs of views that look like one place again, the most alike first.

    Args:
        tokens: class tokens `(C,)` by the numbers of their views, which are `key_spacing` apart, ascending.
        window: views of a window.
    """
    keys = np.fromiter(tokens, np.int64)
    if len(keys) < 2 or keys[-1] < FEWEST_WINDOWS_APART * window:
        return []
    stacked = np.stack(list(tokens.values()))  # (K, C)
    own = stacked - stacked.mean(0)  # what all views of the walk have in common tells no place
    directions = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    # What "alike" means to this backbone in this scene: as views that share most of what they show.
    threshold = float(np.median((directions[1:] * directions[:-1]).sum(1)))
    found = []
    for later, number in enumerate(keys):
        earlier = np.flatnonzero(keys <= number - FEWEST_WINDOWS_APART * window)
        if not len(earlier):
            continue
        likeness = directions[earlier] @ directions[later]
        best = int(likeness.argmax())
        if likeness[best] >= threshold:
            found.append(LoopCandidate(int(keys[earlier[best]]), int(number), float(likeness[best])))
    return sorted(found, key=lambda candidate: -candidate.likeness)


def close_loops(
    graph: WindowGraph[int],
    tokens: Mapping[int, np.ndarray],
    infer: Callable[[Sequence[int]], Prediction],
    window: int,
    ahead: Ahead = in_turn,
) -> int:
    """Add to an adjusted graph of all views a window for every loop that holds; how many those are.

    Args:
        graph: its frames are the numbers of the views.
        tokens: see `find_candidates`.
        infer: the prediction of some views, by number.
        window: views of a window.
        ahead: of `infer`; some of what it reads ahead may not be asked for, since a loop near it was taken.
    """
    taken: list[LoopCandidate] = []
    looked_at, most = 0, max(1, int(MOST_INFERRED * graph.windows))

    def is_worth_a_look(candidate: LoopCandidate) -> bool:
        spacing = LOOP_EVERY_WINDOWS * window
        return looked_at < most and all(abs(candidate.later - other.later) >= spacing for other in taken)

    def ends_of(candidate: LoopCandidate) -> tuple[list[int], list[int]]:
        count, views = window // 2, len(graph.frames)
        return _around(candidate.earlier, count, views), _around(candidate.later, count, views)

    candidates = filter(is_worth_a_look, find_candidates(tokens, window))
    for candidate in ahead(candidates, lambda candidate: [*chain(*ends_of(candidate))]):
        if not is_worth_a_look(candidate):
            continue
        looked_at += 1
        ends = ends_of(candidate)
        prediction = infer([*ends[0], *ends[1]])
        if prediction.extrinsics is None or not prediction.placed.all() or len(prediction.maps) > 1:
            logger.info("views %d and %d look alike, but cannot be placed together", candidate.earlier, candidate.later)
            continue
        views = _window_views(prediction, [*ends[0], *ends[1]])
        first = len(ends[0])
        by_earlier = graph.locate(views.part(slice(first)))
        by_later = graph.locate(views.part(slice(first, None)))
        pair = ends[0].index(candidate.earlier), first + ends[1].index(candidate.later)
        why = refusal(prediction, pair, by_earlier, by_later, _drift(graph, candidate))
        if why:
            logger.info("views %d and %d look alike, but %s", candidate.earlier, candidate.later, why)
            continue
        taken.append(candidate)
        graph.add(views, by_later)
    if taken:
        graph.adjust_loops()
        logger.info("%d loops closed", len(taken))
    return len(taken)


def refusal(
    prediction: Prediction,
    pair: tuple[int, int],
    by_earlier: Similarity | None,
    by_later: Similarity | None,
    drift: Drift,
) -> str | None:
    """Why a loop does not hold; None if it does.

    Args:
        prediction: of both ends together, all of whose views have a pose.
        pair: the views of it that look alike.
        by_earlier, by_later: where it lies by the views of either end; None where these contradict it.
        drift: what the gap is to be explained by.
    """
    if by_earlier is None or by_later is None:
        return "the window of both does not fit to where one of them is"
    assert prediction.extrinsics is not None
    if min(_seen_share(prediction, *pair), _seen_share(prediction, *pair[::-1])) < SEEN_FROM_BOTH:
        return "they do not show the same surfaces"
    camera = invert_rigid(prediction.extrinsics[pair[1]].astype(np.float64))[:3, 3]
    gap = float(np.linalg.norm(by_earlier.apply(camera) - by_later.apply(camera)))
    turned = float(np.linalg.norm(by_earlier.rotation - by_later.rotation)) / np.sqrt(2)
    most = MOST_DRIFT_OF_WAY
    if "feature_poses" in prediction.aux:
        drift, most = drift.by_matches(), MOST_DRIFT_OF_WAY_BY_MATCHES
    if gap > min(MOST_DRIFT * drift.gap, most * drift.way) or turned > MOST_DRIFT * drift.turn:
        return (
            f"they are {gap / max(drift.way, 1e-12):.0%} of the way between them apart, turned by "
            f"{np.rad2deg(turned):.1f} degrees: more than the windows between them drift"
        )
    return None


def _drift(graph: WindowGraph[int], candidate: LoopCandidate) -> Drift:
    """Every step's error of rotation and scale moves what comes after by how far that is away."""
    cameras = np.stack([graph.camera_to_map(v) for v in range(candidate.earlier, candidate.later + 1)])
    centres = cameras[:, :3, 3]
    steps_per_view = graph.windows / len(graph.frames)
    shared = max(1.0, graph.shared_frames())
    away = np.linalg.norm(centres - centres[-1], axis=1)  # from where each step's error acts
    turn, scale = graph.spread.rotation**2, graph.spread.log_depth**2
    by_step = 2 / shared * steps_per_view
    moved = 2 / shared * steps_per_view * len(centres) * (graph.spread.centre * graph.median_depth()) ** 2 * 3
    gap = float(np.sqrt(by_step * (turn * 2 + scale) * (away**2).sum() + moved))
    way = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    return Drift(gap, float(np.sqrt(3 * by_step * turn * len(centres))), way, turned_in_all(cameras[:, :3, :3]))


def turned_in_all(rotations: np.ndarray) -> float:
    """Radians from each of `(K, 3, 3)` to the next, added up."""
    steps = np.linalg.norm(rotations[1:] - rotations[:-1], axis=(1, 2)) / np.sqrt(2)
    return float(steps.sum())


def _seen_share(prediction: Prediction, source: int, target: int) -> float:
    """Of the pixels of one view, those that meet a surface where the other view has it."""
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None  # without a camera there are no poses
    height, width = prediction.depth.shape[1:]
    v, u = np.mgrid[0 : height - 1 : GRID * 1j, 0 : width - 1 : GRID * 1j].astype(int).reshape(2, -1)
    k, depth = prediction.usable_intrinsics.astype(np.float64), prediction.depth.astype(np.float64)
    rays = np.stack([u + 0.5, v + 0.5, np.ones(len(u))], 1) @ np.linalg.inv(k[source]).T
    target_from_source = prediction.extrinsics[target].astype(np.float64) @ invert_rigid(
        prediction.extrinsics[source].astype(np.float64)
    )
    points = (rays * depth[source, v, u][:, None]) @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    projected = (points / z[:, None]) @ k[target].T
    inside = np.isfinite(z) & (projected[:, 0] >= 0) & (projected[:, 0] < width)
    inside &= (projected[:, 1] >= 0) & (projected[:, 1] < height)
    column, row = projected[inside, :2].astype(int).T
    same = np.abs(np.log(depth[target, row, column] / z[inside])) < SAME_SURFACE
    return float(same.sum()) / len(u)


def _around(view: int, count: int, views: int) -> list[int]:
    start = int(np.clip(view - count // 2, 0, views - count))
    return list(range(start, start + count))


def _window_views(prediction: Prediction, frames: list[int]) -> WindowViews[int]:
    assert prediction.extrinsics is not None
    camera_to_window = invert_rigid(prediction.extrinsics.astype(np.float64))
    return WindowViews(frames, camera_to_window, prediction.depth, prediction.conf, prediction.sky)
