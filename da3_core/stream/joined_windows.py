# SPDX-License-Identifier: Apache-2.0
"""More views than memory takes at once: overlapping windows, each inferred by itself, joined into one prediction.

For recorded views. A live stream goes through `session.Session`, which places windows by the same alignment, and
adjusts the last of them; here all windows are adjusted together in the end.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.alignment import PosedDepth, WindowAlignment, align_window
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import PER_VIEW, Prediction, of_all_views
from da3_core.stream.corrections import fused
from da3_core.stream.inference import Ahead, in_turn
from da3_core.stream.loops import close_loops, key_spacing
from da3_core.stream.scale_filter import log_metres
from da3_core.stream.view_scales import steadied
from da3_core.stream.window_graph import WindowGraph, WindowViews

logger = logging.getLogger(__name__)


def split_windows(views: int, size: int, overlap: int) -> list[range]:
    """Windows of `size` consecutive views that cover all `views`; neighbours share at least `overlap` of them."""
    if views <= size:
        return [range(views)]
    steps = -(-(views - size) // (size - overlap))
    starts = [step * (views - size) // steps for step in range(steps + 1)]
    return [range(start, start + size) for start in starts]


def join_windows(
    windows: Sequence[range],
    predictions: Iterable[Prediction],
    *,
    same_world: bool,
    infer: Callable[[Sequence[int]], Prediction] | None = None,
    ahead: Ahead = in_turn,
) -> Prediction:
    """The predictions of consecutive windows as one, in the world and the unit of the first, or, where the model
    predicts metres, in those that its windows have on average.

    Cameras and scales of views that several windows share are what all of these agree on, and so is their depth, where
    it is about the same; the rest is as the earliest window said that could place the view. Views that share none with
    those before them are a map of their own, see `Prediction.segments`.

    Args:
        windows: the views of each prediction, from `split_windows`.
        predictions: of the windows, in order; asked for one after the other.
        same_world: they share a world and a unit already, so nothing needs to be moved, and the earliest window's word
            stands.
        infer: the prediction of any views, by number, which closes loops: places that the views come back to.
        ahead: of `infer`.

    Raises:
        InputError: the windows' processed images differ in size.
    """
    pairs = zip(windows, predictions, strict=True)
    window, first = next(pairs)
    joined = _Joined(same_world)
    joined.add(first, window)
    for window, prediction in pairs:
        if prediction.depth.shape[1:] != first.depth.shape[1:]:
            raise InputError(
                "the images differ in size, so they cannot be processed in several windows: "
                "resize them to one size, or allow all of them in one window"
            )
        joined.add(prediction, window)
    return first if len(windows) == 1 else joined.prediction(infer, len(windows[0]), ahead)


class _Map:
    """One world: its windows adjusted together, and map units per unit of the last of them."""

    def __init__(self) -> None:
        self.graph: WindowGraph[int] = WindowGraph(None)
        self.scale = 1.0


class _View:
    """A view as the first window that placed it said; `depth` `(H, W)` is what other windows say too.

    `scale` is map units per unit of that window, `said` and `world_to_camera` are in the map. Before, `segment` is -1.
    """

    def __init__(self, prediction: Prediction) -> None:
        self.said = self.depth = prediction.depth[0]
        self.confidence = None if prediction.conf is None else prediction.conf[0]
        self.sky = None if prediction.sky is None else prediction.sky[0]
        self.intrinsics = None if prediction.usable_intrinsics is None else prediction.usable_intrinsics[0]
        self.world_to_camera = np.full((4, 4), np.nan)
        self.segment, self.scale = -1, 1.0
        self._windows = 1  # that the depth is made of

    def place(self, depth: np.ndarray, world_to_camera: np.ndarray, segment: int, scale: float) -> None:
        self.said = self.depth = depth
        self.world_to_camera, self.segment, self.scale = world_to_camera, segment, scale

    def posed_depth(self) -> PosedDepth:
        depth = self.said if self.sky is None else np.where(self.sky, np.nan, self.said)
        return PosedDepth(depth, self.confidence, invert_rigid(self.world_to_camera.astype(np.float64)))

    def fuse(self, depth: np.ndarray, log_ratio: float) -> None:
        """Another window's depth `(H, W)`."""
        self.depth = fused(self.depth, depth * np.float32(np.exp(-log_ratio) * self.scale), self._windows)
        self._windows += 1


class _Joined:
    """Windows as far as they have been joined."""

    def __init__(self, same_world: bool) -> None:
        self._same_world = same_world
        self._parts: list[Prediction] = []  # the new views of every window
        self._tokens: dict[int, np.ndarray] = {}  # what some views look like
        self._maps: list[_Map] = []
        self._views: list[_View] = []

    def add(self, prediction: Prediction, window: range) -> None:
        """A window that begins with views that others have had."""
        prediction = prediction if self._same_world else steadied(prediction)
        new = _views(prediction, slice(len(self._views) - window.start, None))
        first = len(self._views)
        for i in range(first, window.stop):
            if new.class_tokens is not None and i % key_spacing(len(window)) == 0:
                self._tokens[i] = new.class_tokens[i - first].copy()
        self._parts.append(replace(new, class_tokens=None))
        self._views += [_View(new.views(slice(i, i + 1))) for i in range(len(new.depth))]
        for members in prediction.maps:
            if self._same_world:
                self._place(prediction, window, members, 0, None)
            else:
                self._join(prediction, window, members)

    def prediction(self, infer: Callable[[Sequence[int]], Prediction] | None, window: int, ahead: Ahead) -> Prediction:
        """Of all views, adjusted, with the loops of a map that holds all of them closed."""
        result = _concatenated(_with_assumed(self._parts))
        segments = np.array([view.segment for view in self._views])
        if (segments < 0).all():
            return replace(result, extrinsics=None, segments=None if result.segments is None else segments)
        for number, one in enumerate(self._maps):
            one.graph.adjust_fully()
            if infer is not None and self._tokens and (segments == number).all():
                close_loops(one.graph, self._tokens, infer, window, ahead)
            metres = float(np.exp(log_metres(one.graph.log_scales()))) if result.is_metric else 1.0
            for i in np.flatnonzero(segments == number).tolist():
                view = self._views[i]
                view.depth = view.depth * np.float32(metres * one.graph.depth_scale(i) / view.scale)
                view.world_to_camera = invert_rigid(one.graph.camera_to_map(i))
                view.world_to_camera[:3, 3] *= metres
        return replace(
            result,
            depth=np.stack([view.depth for view in self._views]),
            extrinsics=np.stack([view.world_to_camera for view in self._views]).astype(np.float32),
            segments=segments if result.segments is not None or len(set(segments)) > 1 else None,
        )

    def _join(self, prediction: Prediction, window: range, members: np.ndarray) -> None:
        """Views of a window that share a world: moved to the map that knows most of them, or a map of their own."""
        known = np.array([self._views[window[i]].segment for i in members])
        if not (known >= 0).any():
            if self._maps:
                logger.warning(
                    "of views %d to %d, %d share no camera with those before them and are a map of their own",
                    *(window.start, window.stop - 1, len(members)),
                )
            self._maps.append(_Map())
            self._hear(prediction, window, members, len(self._maps) - 1, Similarity.identity())
            return
        segment = int(np.bincount(known[known >= 0]).argmax())
        shared, strangers = members[known == segment], members[known < 0]
        alignment = self._aligned(prediction, window, shared, self._maps[segment])
        agreeing = shared[-1:] if alignment.method == "last_view" else shared
        heard = np.concatenate([agreeing, strangers])
        log_ratio = self._hear(prediction, window, heard, segment, alignment.window_to_map)
        if alignment.method == "points":
            for i, ratio in zip(shared, log_ratio, strict=False):
                self._views[window[i]].fuse(prediction.depth[i], float(ratio))

    def _aligned(self, prediction: Prediction, window: range, shared: np.ndarray, one: _Map) -> WindowAlignment:
        """Where a window lies by the views that it shares with a map."""
        before = [self._views[window[i]] for i in shared]
        in_window = prediction.views(shared)
        assert in_window.usable_intrinsics is not None
        intrinsics = [
            own if view.intrinsics is None else view.intrinsics
            for view, own in zip(before, in_window.usable_intrinsics, strict=True)
        ]
        alignment = align_window(
            [view.posed_depth() for view in before],
            _posed_depths(in_window),
            intrinsics,
            one.scale,
            one.graph.spread,
        )
        if alignment.method == "last_view":
            logger.warning(
                "views %d to %d do not match the views before them, so where they lie is a guess from one camera "
                "they share",
                window.start,
                window.stop - 1,
            )
        elif alignment.method == "poses":
            logger.info("the depth of views %d to %d does not match those before them", window.start, window.stop - 1)
        return alignment

    def _hear(
        self, prediction: Prediction, window: range, heard: np.ndarray, segment: int, window_to_map: Similarity
    ) -> np.ndarray:
        """What a window says of its views `heard`; their depth over that which the map has, as logarithm."""
        one = self._maps[segment]
        one.scale = window_to_map.scale
        chosen = prediction.views(heard)
        assert chosen.extrinsics is not None
        camera_to_window = invert_rigid(chosen.extrinsics.astype(np.float64))
        views = WindowViews([window[i] for i in heard], camera_to_window, chosen.depth, chosen.conf, chosen.sky)
        log_ratio = one.graph.add(views, window_to_map)
        self._place(prediction, window, heard, segment, window_to_map)
        return log_ratio

    def _place(
        self,
        prediction: Prediction,
        window: range,
        members: np.ndarray,
        segment: int,
        window_to_map: Similarity | None,
    ) -> None:
        """Views that no window has placed before; None leaves them where they are."""
        assert prediction.extrinsics is not None
        for i in members:
            view, depth, world_to_camera = self._views[window[i]], prediction.depth[i], prediction.extrinsics[i]
            if view.segment >= 0:
                continue
            if window_to_map is None:
                view.place(depth, world_to_camera, segment, 1.0)
            else:
                camera_to_map = window_to_map.transform_camera(invert_rigid(world_to_camera.astype(np.float64)))
                scale = window_to_map.scale
                view.place(depth * np.float32(scale), invert_rigid(camera_to_map), segment, scale)


def _with_assumed(parts: Sequence[Prediction]) -> list[Prediction]:
    """A window that could place no view assumed no cameras; they are like those of the others."""
    known = next((part.assumed_intrinsics for part in parts if part.assumed_intrinsics is not None), None)
    if known is None:
        return list(parts)
    return [
        part
        if part.usable_intrinsics is not None
        else replace(
            part,
            assumed_intrinsics=np.tile(known[:1], (len(part.depth), 1, 1)),
            intrinsics_source=of_all_views("assumed", len(part.depth)),
        )
        for part in parts
    ]


def _posed_depths(prediction: Prediction) -> list[PosedDepth]:
    assert prediction.extrinsics is not None
    depth = prediction.depth if prediction.sky is None else np.where(prediction.sky, np.nan, prediction.depth)
    confidence = [None] * len(depth) if prediction.conf is None else prediction.conf
    camera_to_world = invert_rigid(prediction.extrinsics.astype(np.float64))
    return [PosedDepth(*view) for view in zip(depth, confidence, camera_to_world, strict=True)]


def _views(prediction: Prediction, chosen: slice) -> Prediction:
    aux = {name: value[chosen] for name, value in _per_view_aux(prediction).items()}
    return replace(prediction.views(chosen), aux=aux)


def _concatenated(parts: Sequence[Prediction]) -> Prediction:
    def join(values: list[Any]) -> Any:
        return tuple(chain(*values)) if isinstance(values[0], tuple) else np.concatenate(values)

    if any(part.sky is not None for part in parts):  # some windows may have none in view
        parts = [
            part if part.sky is not None else replace(part, sky=np.zeros(part.depth.shape, bool)) for part in parts
        ]
    columns = {name: [getattr(part, name) for part in parts] for name in PER_VIEW}
    values: dict[str, Any] = {
        name: None if any(v is None for v in column) else join(column) for name, column in columns.items()
    }
    aux = [_per_view_aux(part) for part in parts]
    common = [name for name in aux[0] if all(name in each for each in aux)]
    return replace(parts[0], **values, aux={name: join([each[name] for each in aux]) for name in common})


def _per_view_aux(prediction: Prediction) -> dict[str, np.ndarray]:
    """What holds one entry per view and does not speak of the world of one window alone."""
    return {
        name: value
        for name, value in prediction.aux.items()
        if isinstance(value, np.ndarray) and len(value) == len(prediction.depth) and name != "estimated_extrinsics"
    }
