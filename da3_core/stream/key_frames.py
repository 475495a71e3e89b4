# SPDX-License-Identifier: Apache-2.0
"""A choice of the frames of a stream, with where tracking put them, and the loops between them: what is left of a long
map in bounded memory, and how it is bent until its loops are closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from da3_core.geometry.alignment import METRIC_DEVIATION
from da3_core.geometry.pose_graph import Places, ScalePriors, Sightings, Spread, adjust
from da3_core.geometry.similarity import Similarity
from da3_core.stream.frame import Frame
from da3_core.stream.loops import Drift, turned_in_all
from da3_core.stream.uncertainty import MapUncertainty
from da3_core.stream.window_graph import PlacedFrame

Unit = Literal["first", "newest", "fixed"]

MOST_KEY_FRAMES = 160
MOST_LOOPS = 40
THINNED_BY = 16  # key frames at once
NO_OUTLIERS = 1e3  # spreads: a track that gives way would tear the map, and a loop that is wrong is found by its error
LARGEST_ERROR = 3.0  # of a loop after the adjustment, in its deviations: others contradict it


@dataclass(frozen=True, eq=False)
class KeyFrame:
    """A frame that is remembered.

    Attributes:
        number: of the frame among all of the session.
        count: of the key frames before it, those that have been forgotten too.
        packed: its image, as JPEG.
        frame: the rest of it.
        token: `(C,)` float32 what it looks like as a whole.
        tracked: where it is by tracking alone, as if no loop had ever been closed.
        tracked_to_map: how the map was bent there.
        variance: `(3,)` of rotation, centre in units of the tracks, and log depth that tracking has gathered so far.
        way: of the camera so far, in units of the tracks.
        uncertainty: of the map there, before loops were closed.
    """

    number: int
    count: int
    packed: np.ndarray
    frame: Frame
    token: np.ndarray
    tracked: PlacedFrame
    tracked_to_map: Similarity
    variance: np.ndarray
    way: float
    uncertainty: MapUncertainty

    @property
    def in_map(self) -> Similarity:
        return self.tracked_to_map @ self.tracked.place

    @property
    def depth(self) -> float:
        """Typical, in the unit that it is known by."""
        known = self.tracked.log_depth[np.isfinite(self.tracked.log_depth)]
        return float(np.exp(np.median(known))) if known.size else 1.0

    def image(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB."""
        import cv2

        return np.ascontiguousarray(np.asarray(cv2.imdecode(self.packed, cv2.IMREAD_COLOR))[:, :, ::-1])


@dataclass(frozen=True, eq=False)
class Loop:
    """Key frames, by their counts, of which an inference of both says where the later is as the earlier one sees it.

    Attributes:
        deviation: `(3,)` of rotation, centre relative to depth, and log depth.
    """

    earlier: int
    later: int
    later_to_earlier: Similarity
    deviation: np.ndarray


@dataclass(frozen=True, eq=False)
class _Tie:
    """Two key frames, by their place in the list, as something has them in a world of its own.

    Attributes:
        places: of both in that world.
        depth: `(2,)` typical depths of their views in its unit.
        deviation: `(3,)` of the one as the other sees it.
        to_map: where the world is in the map, about.
        scale_prior: mean and deviation of the log scale of `to_map`.
    """

    ends: tuple[int, int]
    places: tuple[Similarity, Similarity]
    depth: np.ndarray
    deviation: np.ndarray
    to_map: Similarity
    scale_prior: tuple[float, float] = (0.0, np.inf)


def drift_between(keys: Sequence[KeyFrame]) -> Drift:
    """What tracking from the first to the last of some key frames may have come to."""
    centres = np.stack([key.tracked.place.translation for key in keys])
    away = np.linalg.norm(centres - centres[-1], axis=1)[:-1]  # from where each step's error acts
    steps = np.diff([key.variance for key in keys], axis=0)  # (K - 1, 3)
    moved = ((2 * steps[:, 0] + steps[:, 2]) * away**2).sum() + 3 * steps[:, 1].sum()
    turned = turned_in_all(np.stack([key.tracked.place.rotation for key in keys]))
    return Drift(float(np.sqrt(moved)), float(np.sqrt(3 * steps[:, 0].sum())), keys[-1].way - keys[0].way, turned)


def bent(keys: Sequence[KeyFrame], loops: Sequence[Loop], unit: Unit) -> dict[int, Similarity] | None:
    """What takes the tracks near every key frame, by its count, to the map in which tracks and loops agree best.

    None where one of the loops is contradicted by the others.

    Args:
        unit: which one the map has afterwards: that of its first or of its newest end, or both, as it is known.
    """
    scale_prior = (0.0, METRIC_DEVIATION if unit == "fixed" else np.inf)
    index = {key.count: i for i, key in enumerate(keys)}
    ties = [_track(keys, i, scale_prior) for i in range(len(keys) - 1)]
    ties += [_tie(keys, index[loop.earlier], index[loop.later], loop) for loop in loops]
    said = Places.of([place for tie in ties for place in tie.places])
    sightings = Sightings(
        window=np.repeat(np.arange(len(ties)), 2),
        frame=np.array([end for tie in ties for end in tie.ends]),
        rotation=said.rotation,
        centre=said.origin,
        depth=np.concatenate([tie.depth for tie in ties]),
        log_ratio=said.log_scale,
        spreads=np.repeat([tie.deviation / np.sqrt(2) for tie in ties], 2, axis=0),
    )
    windows, frames = Places.of([tie.to_map for tie in ties]), Places.of([key.in_map for key in keys])
    _, frames = adjust(
        sightings,
        windows,
        frames,
        Spread(1, 1, 1),
        fixed_windows=np.zeros(len(ties), bool),
        fixed_frames=np.arange(len(keys)) == 0,
        scale_priors=ScalePriors(*np.array([tie.scale_prior for tie in ties]).T),
        cauchy_width=NO_OUTLIERS,
    )
    for loop in loops:
        seen = frames[index[loop.earlier]].inverse() @ frames[index[loop.later]]
        if not _agrees(loop, seen, keys[index[loop.earlier]].depth):
            return None
    results = [(frames[i] @ key.tracked.place.inverse()).exact() for i, key in enumerate(keys)]
    if unit == "newest":
        larger, about = keys[-1].tracked_to_map.scale / results[-1].scale, frames[0].translation
        results = [Similarity(larger, np.eye(3), (1 - larger) * about) @ result for result in results]
    return {key.count: result for key, result in zip(keys, results, strict=True)}


def thinned(keys: Sequence[KeyFrame], kept: Collection[int]) -> list[KeyFrame]:
    """Without those that show what others show too; the first one, and those whose counts are `kept`, stay."""
    centres = np.stack([key.in_map.translation for key in keys])
    axes = np.stack([key.in_map.rotation for key in keys]).reshape(len(keys), 9)
    depth = np.median([key.depth * key.in_map.scale for key in keys])
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) / depth  # (K, K)
    apart += np.linalg.norm(axes[:, None] - axes, axis=2) / np.sqrt(2)
    np.fill_diagonal(apart, np.inf)
    free = np.array([i > 0 and key.count not in kept for i, key in enumerate(keys)])
    gone: set[int] = set()
    while len(gone) < THINNED_BY and free.any():
        chosen = int(np.where(free, apart.min(axis=1), np.inf).argmin())
        gone.add(chosen)
        free[chosen] = False
        apart[chosen] = apart[:, chosen] = np.inf
    return [key for i, key in enumerate(keys) if i not in gone]


def thinned_loops(loops: Sequence[Loop]) -> list[Loop]:
    """Without the one that has another nearest at both ends, if there are too many; the newest one stays."""
    if len(loops) <= MOST_LOOPS:
        return list(loops)
    ends = np.array([(loop.earlier, loop.later) for loop in loops], np.float64)
    apart = np.abs(ends[:, None] - ends).sum(2)
    np.fill_diagonal(apart, np.inf)
    chosen = int(apart[:-1].min(axis=1).argmin())
    return [loop for i, loop in enumerate(loops) if i != chosen]


def _track(keys: Sequence[KeyFrame], i: int, scale_prior: tuple[float, float]) -> _Tie:
    """From a key frame to the next."""
    pair = keys[i : i + 2]
    depth = np.array([key.depth * key.tracked.place.scale for key in pair])
    deviation = np.sqrt(pair[1].variance - pair[0].variance) / np.array([1, depth.mean(), 1])
    places = pair[0].tracked.place, pair[1].tracked.place
    return _Tie((i, i + 1), places, depth, deviation, pair[0].tracked_to_map, scale_prior)


def _tie(keys: Sequence[KeyFrame], earlier: int, later: int, loop: Loop) -> _Tie:
    """In the axes and the unit of the earlier one."""
    places = Similarity.identity(), loop.later_to_earlier
    depth = np.full(2, keys[earlier].depth)
    return _Tie((earlier, later), places, depth, loop.deviation, keys[earlier].in_map)


def _agrees(loop: Loop, seen: Similarity, depth: float) -> bool:
    turned = np.linalg.norm(seen.rotation - loop.later_to_earlier.rotation) / np.sqrt(2)
    moved = np.linalg.norm(seen.translation - loop.later_to_earlier.translation) / depth
    scaled = abs(np.log(seen.scale / loop.later_to_earlier.scale))
    allowed = LARGEST_ERROR * np.array([np.sqrt(3), np.sqrt(3), 1]) * loop.deviation
    return bool((np.array([turned, moved, scaled]) <= allowed).all())
