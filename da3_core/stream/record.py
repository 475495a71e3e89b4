# SPDX-License-Identifier: Apache-2.0
"""What a stream has seen, live or from a bag, within bounded memory, handed out as one prediction for the exporters."""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import IntrinsicsOrigin, Prediction
from da3_core.stream.corrections import Bend, CorrectedPose, fused
from da3_core.stream.frame import Frame
from da3_core.stream.session import View, WindowResult

Keep = Literal["present_map", "longest_map"]
Scope = Literal["window", "session"]

MOST_NAMED = 6  # images without a pose
LOST_SHARE = 0.25
LARGEST_CONFIDENCE = np.finfo(np.float16).max


class SessionRecord:
    """The last window, and views of one map for the whole session. Thread-safe.

    A map is kept with at most `max_views` views, evenly spaced, and at least one of every camera. When there are more,
    every second one of each camera is forgotten, and from then on every second new one is left out: of a long map
    between half of `max_views` and `max_views` remain, the first of every camera among them.

    Images that could not be placed are handed out among the others, for formats that hold depth alone: of a map, beside
    its views a `LOST_SHARE` as many at most. All of them are counted.

    Results tell where views are by now, and how large their depth: views are handed out there, as one map. Depth that
    several windows saw is the mean of what they say, where that is nearly the same.

    The memory is that of `max_views` views, one window and the images without a pose; to keep the longest map, of twice
    as many, since the present one may become the longest. A view takes 10 bytes per pixel of the processed image
    (9 without sky); the image as the camera gave it, which may be many times larger, is not kept.

    Attributes:
        map: the number of the session and the segment of the map that is kept, or None before the first result.
    """

    def __init__(self, max_views: int, keep: Keep = "present_map") -> None:
        """Choose the map: the `present_map`, or the `longest_map`, the first one with the most views."""
        self._max_views, self._keep = max_views, keep
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._present = self._kept = _MapViews(None, self._max_views, is_placed=False)
            self._window: list[_RecordedView] = []
            self._window_is_metric = False
            self._bare: set[int] = set()  # of the window, views of an earlier map that have no depth in this one
            self._waiting: dict[Frame, str] = {}  # views of the last window without a pose, which the next may place
            self._unplaced, self._unplaced_names = 0, list[str]()
            self._sought = False  # poses, which takes two views

    @property
    def unplaced(self) -> tuple[int, tuple[str, ...]]:
        """How many images have no pose, and the names of some of them."""
        with self._lock:
            names = [*self._unplaced_names, *self._waiting.values()][:MOST_NAMED]
            return self._unplaced + len(self._waiting), tuple(names)

    @property
    def map(self) -> tuple[int, int] | None:
        return self._kept.number

    def add(self, result: WindowResult, session: int) -> None:
        """Take in a result of the session of this number."""
        late = self._wait(result)
        is_placed = any(view.world_to_camera is not None for view in result.views)
        is_metric = result.scale_source != "none"
        number, corrected = (session, result.segment), {each.number: each for each in result.corrected}
        with self._lock:
            starts_map = self._present.number != number or (is_placed and not self._present.is_placed)
            if starts_map:
                unplaced = self._present.views if self._present.number == number else []
                self._present = _MapViews(number, self._max_views, is_placed, result.placement == "known", unplaced)
            elif result.bend:
                self._present.bend(result.bend)
                self._window = [view.bent(result.bend) for view in self._window]
            before = {} if starts_map else {view.number: view for view in self._window}
            self._window, self._window_is_metric = [], is_metric
            self._bare = {view.number for view in result.views if not view.is_new and np.isnan(view.depth).all()}
            for view in result.views:
                stands = not view.is_new and view.frame not in late and view.number in before
                recorded = before[view.number] if stands else _RecordedView.of(view)
                self._window.append(recorded.corrected(corrected.get(view.number)))
            if self._present.is_placed == is_placed:
                self._present.is_metric = is_metric
            self._present.correct(corrected, self._window)
            for view, recorded in zip(result.views, self._window, strict=True):
                if view.is_new or view.frame in late or (starts_map and view.number not in self._bare):
                    self._present.add(recorded)
            if self._keep == "present_map" or self._present.length > self._kept.length:
                self._kept = self._present

    def _wait(self, result: WindowResult) -> set[Frame]:
        """The frames that have a place now and had none before."""
        with self._lock:
            posed = {view.frame for view in result.views if view.world_to_camera is not None}
            present = {view.frame for view in result.views}
            late = self._waiting.keys() & posed
            self._sought |= len(result.views) > 1
            gone = [name for frame, name in self._waiting.items() if frame not in present]
            self._unplaced += len(gone)
            self._unplaced_names = [*self._unplaced_names, *gone][:MOST_NAMED]
            still = {frame: name for frame, name in self._waiting.items() if frame in present - posed}
            sought = result.views if len(result.views) > 1 else ()
            new = (view for view in sought if view.is_new and view.world_to_camera is None)
            self._waiting = still | {view.frame: f"{view.frame.stamp_ns}.png" for view in new}
            return late

    def prediction(self, scope: Scope = "session") -> Prediction:
        """The views of the last window or of the session's map, oldest first; later results do not change it.

        The world is the map, in the optical axes of its first camera, or of the poses that images came with; see
        `ros_data.conventions.in_map_axes`. Images are named by their stamps in nanoseconds,
        after their camera where there are several; no name comes twice.

        Raises:
            InputError: nothing has been added.
        """
        with self._lock:
            if scope == "window":
                views = [view for view in self._window if view.number not in self._bare]
                is_metric, is_known = self._window_is_metric, self._present.is_known
            else:
                views, is_metric, is_known = self._kept.views, self._kept.is_metric, self._kept.is_known
        if not views:
            raise InputError("Nothing has been inferred yet; publish images, then ask again.")
        world = "input" if is_known else "first_camera"
        return replace(_prediction(views, is_metric, self._sought), world=world)


@dataclass(frozen=True, eq=False)
class _RecordedView:
    """A `View` without the image as the camera gave it; confidence is float16."""

    number: int
    stamp_ns: int
    camera: str
    original_size: tuple[int, int]
    processed_from_original: np.ndarray | None
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None
    sky: np.ndarray | None
    intrinsics: np.ndarray | None
    intrinsics_source: IntrinsicsOrigin | None
    world_to_camera: np.ndarray | None
    depth_scale: float = 1.0  # by now, times `depth`
    times_seen: int = 1

    @classmethod
    def of(cls, view: View) -> "_RecordedView":
        confidence, (height, width) = view.confidence, view.frame.image.shape[:2]
        return cls(
            number=view.number,
            stamp_ns=view.frame.stamp_ns,
            camera=view.frame.source or view.frame.camera,
            original_size=(height, width),
            processed_from_original=view.processed_from_original,
            image=view.image,
            depth=view.depth,
            confidence=None if confidence is None else np.minimum(confidence, LARGEST_CONFIDENCE).astype(np.float16),
            sky=view.sky,
            intrinsics=view.intrinsics,
            intrinsics_source=view.intrinsics_source,
            world_to_camera=view.world_to_camera,
        )

    def bent(self, bend: Bend) -> "_RecordedView":
        """As it is in a map that was bent."""
        if self.world_to_camera is None:
            return self
        camera_to_map, scale = bend(self.number, invert_rigid(self.world_to_camera))
        return replace(self, world_to_camera=invert_rigid(camera_to_map), depth_scale=scale * self.depth_scale)

    def corrected(self, by: CorrectedPose | None) -> "_RecordedView":
        """As it is by now; None where nothing has changed."""
        if by is None:
            return self
        moved = replace(self, world_to_camera=by.world_to_camera, depth_scale=by.depth_scale)
        if by.said_again is None or by.said_again.shape != self.depth.shape:
            return moved
        depth = fused(self.depth, by.said_again * np.float32(by.said_scale / by.depth_scale), self.times_seen)
        return replace(moved, depth=depth, times_seen=self.times_seen + 1)


class _Thinned:
    """Views at even distances, at most `max_views`, thinned by camera, so that all cameras keep the same frame sets."""

    def __init__(self, max_views: int) -> None:
        self._max_views = max_views
        self._views: dict[int, tuple[int, _RecordedView]] = {}  # by its number; before it, which of its camera it is
        self._seen: Counter[str] = Counter()
        self._spacing = 1

    @property
    def seen(self) -> int:
        return self._seen.total()

    @property
    def views(self) -> list[_RecordedView]:
        return [view for _, view in self._views.values()]

    def add(self, view: _RecordedView) -> None:
        count = self._seen[view.camera]
        self._seen[view.camera] += 1
        if count % self._spacing == 0:
            self._views[view.number] = count, view
        if len(self._views) > max(self._max_views, len(self._seen)):
            self._spacing *= 2
            self._views = {number: each for number, each in self._views.items() if each[0] % self._spacing == 0}

    def remove(self, number: int) -> None:
        self._views.pop(number, None)

    def bend(self, by: Bend) -> None:
        self._views = {number: (count, view.bent(by)) for number, (count, view) in self._views.items()}

    def correct(self, corrected: Mapping[int, CorrectedPose], window: Sequence[_RecordedView]) -> None:
        """Views are where they are by now; those of the `window` are so already."""
        present = {view.number: view for view in window}
        for number, by in corrected.items():
            if number in self._views:
                count, view = self._views[number]
                self._views[number] = count, present[number] if number in present else view.corrected(by)


class _MapViews:
    """Views of one map.

    Attributes:
        number: of the session and the segment.
        is_known: whether poses that images came with are the map.
        is_placed: whether it has views with poses. Then those that have none take no turn of the others.
        is_metric: whether its unit is the metre.
    """

    def __init__(
        self,
        number: tuple[int, int] | None,
        max_views: int,
        is_placed: bool,
        is_known: bool = False,
        unplaced: Iterable[_RecordedView] = (),
    ) -> None:
        self.number, self.is_placed, self.is_known, self.is_metric = number, is_placed, is_known, False
        self._kept, self._lost = _Thinned(max_views), _Thinned(max(1, int(LOST_SHARE * max_views)))
        for view in unplaced:
            self._lost.add(view)

    @property
    def length(self) -> tuple[bool, int]:
        """Orders maps: any with poses is longer than one without."""
        return self.is_placed, self._kept.seen

    @property
    def views(self) -> list[_RecordedView]:
        views, lost = self._kept.views, self._lost.views
        return sorted([*views, *lost], key=lambda view: view.stamp_ns) if lost else views

    def add(self, view: _RecordedView) -> None:
        self._lost.remove(view.number)
        is_lost = self.is_placed and view.world_to_camera is None
        (self._lost if is_lost else self._kept).add(view)

    def bend(self, by: Bend) -> None:
        self._kept.bend(by)

    def correct(self, corrected: Mapping[int, CorrectedPose], window: Sequence[_RecordedView]) -> None:
        self._kept.correct(corrected, window)


def _prediction(views: Sequence[_RecordedView], is_metric: bool, sought: bool) -> Prediction:
    def stack(name: str, dtype: type) -> np.ndarray | None:
        values = [getattr(view, name) for view in views]
        return None if any(value is None for value in values) else np.stack(values).astype(dtype, copy=False)

    views = _with_intrinsics(views)
    intrinsics, sources = stack("intrinsics", np.float32), [view.intrinsics_source for view in views]
    is_assumed = "assumed" in sources
    placed = np.array([view.world_to_camera is not None for view in views])
    extrinsics = np.full((len(views), 4, 4), np.nan, np.float32)
    for i in np.flatnonzero(placed):
        extrinsics[i] = views[i].world_to_camera
    return Prediction(
        depth=np.stack([view.depth * np.float32(view.depth_scale) for view in views]),
        is_metric=int(is_metric),
        conf=stack("confidence", np.float32),
        sky=_stacked_sky(views),
        extrinsics=extrinsics if placed.any() else None,
        intrinsics=None if is_assumed else intrinsics,
        intrinsics_source=tuple(source for source in sources if source) if intrinsics is not None else None,
        assumed_intrinsics=intrinsics if is_assumed else None,
        processed_images=np.stack([view.image for view in views]),
        original_sizes=np.array([view.original_size for view in views]),
        processed_from_original=stack("processed_from_original", np.float64),
        image_names=_names(views),
        segments=np.where(placed, 0, -1) if sought and not placed.all() else None,
        stamps_ns=np.array([view.stamp_ns for view in views], np.int64),
    )


def _with_intrinsics(views: Sequence[_RecordedView]) -> list[_RecordedView]:
    """A window that placed no view may know no intrinsics: its cameras are those of other views of theirs, or alike."""
    known = [view for view in views if view.intrinsics is not None]
    if not known:
        return list(views)
    of_camera = {view.camera: view for view in reversed(known)}
    filled = []
    for view in views:
        like = of_camera.get(view.camera, known[0])
        if view.intrinsics is None and view.depth.shape == like.depth.shape:
            view = replace(view, intrinsics=like.intrinsics, intrinsics_source=like.intrinsics_source)
        filled.append(view)
    return filled


def _stacked_sky(views: Sequence[_RecordedView]) -> np.ndarray | None:
    """Views without sky among some that have it show none."""
    if all(view.sky is None for view in views):
        return None
    return np.stack([np.zeros(view.depth.shape, bool) if view.sky is None else view.sky for view in views])


def _names(views: Sequence[_RecordedView]) -> tuple[str, ...]:
    """Stamps, after the names of several cameras; numbered where stamps or cameras that are named alike repeat one."""
    several = len({view.camera for view in views}) > 1
    names: dict[str, None] = {}
    for view in views:
        camera = re.sub(r"[^\w.-]+", "_", view.camera.strip("/"))  # a frame id may hold anything
        plain = name = f"{camera}_{view.stamp_ns}" if several else f"{view.stamp_ns}"
        count = 1
        while name in names:
            count += 1
            name = f"{plain}_{count}"
        names[name] = None
    return tuple(f"{name}.png" for name in names)
