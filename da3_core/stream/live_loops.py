# SPDX-License-Identifier: Apache-2.0
"""Loops of a stream while it runs: places that the camera comes back to, in bounded memory.

Some frames are remembered, see `key_frames`. When a new one looks like an old one, both ends are inferred in one
window. If that holds, see `loops`, the map is bent until tracking and all loops agree best. Looking and bending may
take place in a thread beside the stream, which goes on; the bend is taken over before a later window.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from copy import deepcopy
from dataclasses import astuple, dataclass, replace

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.pose_graph import Spread
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import Prediction
from da3_core.stream.corrections import Bend
from da3_core.stream.frame import Frame, FrameName
from da3_core.stream.key_frames import (
    MOST_KEY_FRAMES,
    KeyFrame,
    Loop,
    Unit,
    bent,
    drift_between,
    thinned,
    thinned_loops,
)
from da3_core.stream.loops import FEWEST_WINDOWS_APART, likeness_of, refusal
from da3_core.stream.uncertainty import MapUncertainty
from da3_core.stream.window_graph import WindowGraph, WindowViews, locate

logger = logging.getLogger(__name__)

KEY_FRAMES_OF_A_WINDOW = 2
RECENT_TOKENS = 64  # tell how alike neighbours are
LEAST_MOVED = 0.02  # of depth, or radians: else a frame is no other view than the key frame before it
REST_AFTER_LOOP, REST_AFTER_REFUSAL = 6, 2  # key frames; one loop ties the neighbours of its ends too
JPEG_QUALITY = 95


@dataclass(frozen=True, eq=False)
class _Sought:
    """A loop that may be there, and all that is needed to look: the key frames near each of its ends, the pair of them
    that look alike, and those of the whole map."""

    ends: tuple[Sequence[KeyFrame], Sequence[KeyFrame]]
    pair: tuple[KeyFrame, KeyFrame]
    keys: Sequence[KeyFrame]
    loops: Sequence[Loop]
    spread: Spread
    unit: Unit


@dataclass(frozen=True, eq=False)
class _Found:
    """A loop, and what takes the tracks near every key frame, by its count, to the map once it is closed."""

    loop: Loop
    tracked_to_map: dict[int, Similarity]


class LiveLoops:
    """Follows the tracking of a session and closes its loops.

    Args:
        infer: the prediction of some frames.
        in_background: `infer` is called in a thread of its own; else by `take`.
    """

    def __init__(self, infer: Callable[[Sequence[Frame]], Prediction], *, in_background: bool) -> None:
        self._infer, self._in_background = infer, in_background
        self.clear()

    def clear(self) -> None:
        """Forget the map; what is being looked for in it is not wanted any more."""
        self._keys: list[KeyFrame] = []
        self._loops: list[Loop] = []
        self._tracked: dict[FrameName, int] = {}  # of the key frames that tracking may still move, their counts
        self._recent: deque[np.ndarray] = deque(maxlen=RECENT_TOKENS)
        self._tracked_to_map = Similarity.identity()  # at the newest end
        self._variance, self._way = np.zeros(3), 0.0
        self._camera: np.ndarray | None = None  # the newest one's centre, in the tracks
        self._count = self._rest = 0
        self._search: _Search | None = None

    def take(self) -> tuple[Bend, Similarity, MapUncertainty] | None:
        """How the map is to be bent before it goes on, how its newest end is, and how uncertain that is then; None
        where the map stays.

        Raises:
            Exception: what `infer` does, unless that is in the background.
        """
        found = self._search.take() if self._search else None
        if found is None or not {found.loop.earlier, found.loop.later} <= {key.count for key in self._keys}:
            return None
        newest = found.tracked_to_map[max(found.tracked_to_map)]
        moves, keys, tracked = {}, [], set(self._tracked.values())
        for key in self._keys:
            to_map = newest if key.count in tracked else found.tracked_to_map.get(key.count, newest)
            moves[key.number] = to_map @ key.tracked_to_map.inverse()
            keys.append(replace(key, tracked_to_map=to_map))
        self._keys, self._loops, self._rest = keys, thinned_loops([*self._loops, found.loop]), REST_AFTER_LOOP
        move, self._tracked_to_map = newest @ self._tracked_to_map.inverse(), newest
        by_count = {key.count: key for key in keys}
        earlier, later = by_count[found.loop.earlier], by_count[found.loop.later]
        camera = later.in_map.transform_camera(np.eye(4))
        return Bend(moves), move, earlier.uncertainty.led_back(camera, later.depth * later.in_map.scale)

    def rescale(self, larger: Similarity) -> None:
        """The newest end of the map has another unit from now on; the tracks keep theirs."""
        self._tracked_to_map = larger @ self._tracked_to_map

    def follow(
        self,
        graph: WindowGraph[FrameName],
        uncertainty: MapUncertainty,
        name: FrameName,
        frame: Frame,
        token: np.ndarray,
        *,
        window: int,
        unit: Unit,
    ) -> None:
        """Take in the newest frame of a window that was placed.

        Args:
            graph: of the last windows.
            uncertainty: of the map at its newest end.
            frame: as the network saw it.
            token: `(C,)`, what it looks like as a whole.
            window: views of a window.
            unit: which one the map keeps where it is bent.
        """
        self._track(graph, name)
        if not self._is_new_view(graph, name, max(1, window // KEY_FRAMES_OF_A_WINDOW)):
            return
        self._remember(graph, uncertainty, name, frame, token)
        if self._rest > 0:
            self._rest -= 1
        elif self._search is None or self._search.is_over:
            sought = self._look_alike(graph.spread, window, unit)
            if sought is not None:
                self._rest = REST_AFTER_REFUSAL
                self._search = _Search(lambda: self._looked(sought), in_background=self._in_background)

    def _track(self, graph: WindowGraph[FrameName], newest: FrameName) -> None:
        """What the last window changed: where its frames are, the way, and how much may have drifted."""
        map_to_tracks = self._tracked_to_map.inverse()
        self._tracked = {name: count for name, count in self._tracked.items() if name in graph}
        places = {count: map_to_tracks @ graph.placed(name).place for name, count in self._tracked.items()}
        for i in range(max(0, len(self._keys) - len(places)), len(self._keys)):
            key = self._keys[i]
            tracked = replace(key.tracked, place=places[key.count])
            self._keys[i] = replace(key, tracked=tracked, tracked_to_map=self._tracked_to_map)

        camera = map_to_tracks.apply(graph.camera_to_map(newest)[:3, 3])
        self._way += 0.0 if self._camera is None else float(np.linalg.norm(camera - self._camera))
        self._camera = camera
        spread, depth = graph.spread, graph.median_depth() * map_to_tracks.scale
        step = np.array([spread.rotation, spread.centre * depth, spread.log_depth])
        self._variance = self._variance + 2 / max(1.0, graph.shared_frames()) * step**2

    def _is_new_view(self, graph: WindowGraph[FrameName], name: FrameName, apart: int) -> bool:
        if not self._keys:
            return True
        last = self._keys[-1]
        if name.number - last.number < apart:
            return False
        place = self._tracked_to_map.inverse() @ graph.placed(name).place
        moved = np.linalg.norm(place.translation - last.tracked.place.translation)
        turned = np.linalg.norm(place.rotation - last.tracked.place.rotation) / np.sqrt(2)
        return bool(moved > LEAST_MOVED * last.depth * last.tracked.place.scale or turned > LEAST_MOVED)

    def _remember(
        self,
        graph: WindowGraph[FrameName],
        uncertainty: MapUncertainty,
        name: FrameName,
        frame: Frame,
        token: np.ndarray,
    ) -> None:
        import cv2

        _, packed = cv2.imencode(".jpg", frame.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        placed = graph.placed(name)
        key = KeyFrame(
            number=name.number,
            count=self._count,
            packed=packed,
            frame=replace(frame, image=np.empty((0, 0, 3), np.uint8)),
            token=token.astype(np.float32),
            tracked=replace(placed, place=self._tracked_to_map.inverse() @ placed.place),
            tracked_to_map=self._tracked_to_map,
            variance=self._variance,
            way=self._way,
            uncertainty=deepcopy(uncertainty),
        )
        self._keys.append(key)
        self._tracked[name] = self._count
        self._recent.append(key.token)
        self._count += 1
        if len(self._keys) > MOST_KEY_FRAMES:
            tied = {end for loop in self._loops for end in (loop.earlier, loop.later)}
            self._keys = thinned(self._keys, tied | set(self._tracked.values()))

    def _look_alike(self, spread: Spread, window: int, unit: Unit) -> _Sought | None:
        """The newest key frame and the old one that looks most like it, if they are as alike as neighbours."""
        later = self._keys[-1]
        apart = FEWEST_WINDOWS_APART * KEY_FRAMES_OF_A_WINDOW
        earlier = [key for key in self._keys if key.count <= later.count - apart]
        if not earlier:
            return None
        common = np.mean([key.token for key in self._keys], axis=0)  # what all look like tells no place
        recent, tokens = np.stack(self._recent) - common, np.stack([key.token for key in earlier]) - common
        likeness = likeness_of(tokens, later.token - common)
        best = earlier[int(likeness.argmax())]
        if likeness.max() < np.median(likeness_of(recent[1:], recent[:-1])):
            return None
        half = max(1, window // 2)
        near = sorted(earlier, key=lambda key: abs(key.count - best.count))[:half]
        near = [key for key in near if abs(key.count - best.count) <= half]
        ends = sorted(near, key=lambda key: key.count), self._keys[-half:]
        return _Sought(ends, (best, later), tuple(self._keys), tuple(self._loops), spread, unit)

    def _looked(self, sought: _Sought) -> _Found | None:
        """The loop, and how it bends the map; None where it does not hold."""
        (earlier, later), first = sought.pair, len(sought.ends[0])
        keys = [*sought.ends[0], *sought.ends[1]]
        prediction = self._infer([replace(key.frame, image=key.image()) for key in keys])
        if prediction.extrinsics is None or not prediction.placed.all() or len(prediction.maps) > 1:
            return None
        cameras = invert_rigid(prediction.extrinsics.astype(np.float64))
        views = WindowViews([key.count for key in keys], cameras, prediction.depth, prediction.conf, prediction.sky)
        by_earlier = locate([key.tracked for key in sought.ends[0]], views.part(slice(first)))
        by_later = locate([key.tracked for key in sought.ends[1]], views.part(slice(first, None)))
        pair = sought.ends[0].index(earlier), first + sought.ends[1].index(later)
        between = [key for key in sought.keys if earlier.count <= key.count <= later.count]
        why = refusal(prediction, pair, by_earlier, by_later, drift_between(between))
        if why or by_earlier is None or by_later is None:
            logger.info("images %d and %d look alike, but %s", earlier.number, later.number, why)
            return None
        gap = by_earlier @ by_later.inverse()
        deviation = np.sqrt(2 / first + 2 / len(sought.ends[1])) * np.array(astuple(sought.spread))
        later_to_earlier = (earlier.tracked.place.inverse() @ gap @ later.tracked.place).exact()
        loop = Loop(earlier.count, later.count, later_to_earlier, deviation)
        tracked_to_map = bent(sought.keys, [*sought.loops, loop], sought.unit)
        if tracked_to_map is None:
            logger.info("images %d and %d show one place, but other loops contradict", earlier.number, later.number)
            return None
        logger.info("images %d and %d show one place: a loop is closed", earlier.number, later.number)
        return _Found(loop, tracked_to_map)


class _Search:
    """A look for one loop, in a thread or when its result is taken, which is once."""

    def __init__(self, look: Callable[[], _Found | None], *, in_background: bool) -> None:
        self._look = look
        self._found: _Found | None = None
        self._thread: threading.Thread | None = None
        self.is_over = False
        if in_background:
            self._thread = threading.Thread(target=self._run, name="da3_loops", daemon=True)
            self._thread.start()

    def take(self) -> _Found | None:
        if self.is_over or (self._thread is not None and self._thread.is_alive()):
            return None
        self.is_over = True
        return self._look() if self._thread is None else self._found

    def _run(self) -> None:
        try:
            self._found = self._look()
        except CancelledError:
            pass  # the model is going away
        except Exception as error:  # whatever a model can raise: the stream goes on without this loop
            logger.warning("A loop could not be looked for: %s", error)
