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
from da3_core.geometry.alignment import PosedDepth, align_window
from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import PER_VIEW, Prediction
from da3_core.stream.loops import close_loops
from da3_core.stream.window_graph import WindowGraph, WindowViews

MAX_FUSED_DIFFERENCE = 0.1  # of depths of one pixel, relative: beyond it one of two is on another surface

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
) -> Prediction:
    """The predictions of consecutive windows as one, in the world and the unit of the first.

    Cameras and scales of views that several windows share are what all of these agree on, and so is their depth, where
    it is about the same; the rest is as the earliest window said. If one window knows no cameras, the result has none.

    Args:
        windows: the views of each prediction, from `split_windows`.
        predictions: of the windows, in order; asked for one after the other.
        same_world: they share a world and a unit already, so nothing needs to be moved, and the earliest window's word
            stands.
        infer: the prediction of any views, by number, which closes loops: places that the views come back to.

    Raises:
        InputError: the windows' processed images differ in size.
    """
    pairs = zip(windows, predictions, strict=True)
    previous, first = next(pairs)
    joined = _Joined(first, same_world)
    for window, prediction in pairs:
        if prediction.depth.shape[1:] != first.depth.shape[1:]:
            raise InputError(
                "the images differ in size, so they cannot be processed in several windows: "
                "resize them to one size, or allow all of them in one window"
            )
        joined.add(prediction, window, previous.stop - window.start)
        previous = window
    return joined.prediction(infer, len(windows[0]))


class _Joined:
    """Windows as far as they have been joined; `placed` holds all views of the last, in the world of the first."""

    def __init__(self, first: Prediction, same_world: bool) -> None:
        self._same_world = same_world
        self._placed = first
        self._parts = [first]
        self._depth = list(first.depth)  # of every view, as placed
        self._graph: WindowGraph[int] = WindowGraph(None)
        self._scale = 1.0  # of the last window
        self._depth_scales = [1.0] * len(first.depth)  # of the window that placed it
        self._says = np.ones(len(first.depth), np.int64)  # how many windows the depth of every view is made of
        if first.extrinsics is not None and not same_world:
            self._graph.add(_window_views(first, range(len(first.depth))), Similarity.identity())

    def add(self, prediction: Prediction, window: range, shared: int) -> None:
        """A window whose first `shared` views are the last ones of all so far."""
        earlier = _views(self._placed, slice(len(self._placed.depth) - shared, None))
        if not self._same_world:
            prediction = self._moved(prediction, earlier, window)
        self._parts.append(_views(prediction, slice(shared, None)))
        self._depth += list(self._parts[-1].depth)
        self._placed = _concatenated([earlier, self._parts[-1]])
        new = len(window) - shared
        self._depth_scales += [self._scale] * new
        self._says = np.append(self._says, np.ones(new, np.int64))

    def prediction(self, infer: Callable[[Sequence[int]], Prediction] | None, window: int) -> Prediction:
        """Of all views, adjusted, with loops closed."""
        if len(self._parts) == 1:
            return self._parts[0]
        result = _concatenated(self._parts)
        if result.extrinsics is None or not self._graph.frames:
            return result
        self._graph.adjust_fully()
        if infer is not None and result.class_tokens is not None:
            close_loops(self._graph, result.class_tokens, infer, window)
        views = range(len(result.depth))
        factors = [self._graph.depth_scale(view) / self._depth_scales[view] for view in views]
        camera_to_world = np.stack([self._graph.camera_to_map(view) for view in views])
        return replace(
            result,
            depth=np.stack([depth * np.float32(factor) for depth, factor in zip(self._depth, factors, strict=True)]),
            extrinsics=invert_rigid(camera_to_world).astype(np.float32),
        )

    def _moved(self, prediction: Prediction, earlier: Prediction, window: range) -> Prediction:
        """A prediction brought into the world and unit of the earlier one of its first views."""
        if prediction.extrinsics is None or earlier.extrinsics is None:
            logger.warning(
                "views %d to %d cannot be joined to those before them without cameras", window.start, window.stop - 1
            )
            return replace(prediction, extrinsics=None)
        assert earlier.usable_intrinsics is not None
        shared = len(earlier.depth)
        alignment = align_window(
            _posed_depths(earlier),
            _posed_depths(_views(prediction, slice(shared))),
            list(earlier.usable_intrinsics),
            self._scale,
            self._graph.spread,
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
        to_first = alignment.window_to_map
        self._scale = to_first.scale
        heard = slice(shared - 1 if alignment.method == "last_view" else 0, None)
        views = _window_views(_views(prediction, heard), window[heard])
        log_ratio = self._graph.add(views, to_first)
        if alignment.method == "points":
            self._fuse(prediction.depth[:shared], log_ratio[:shared], window[:shared])
        camera_to_world = to_first.transform_camera(invert_rigid(prediction.extrinsics.astype(np.float64)))
        return replace(
            prediction,
            depth=prediction.depth * np.float32(to_first.scale),
            extrinsics=invert_rigid(camera_to_world).astype(np.float32),
        )

    def _fuse(self, depth: np.ndarray, log_ratio: np.ndarray, views: range) -> None:
        """Another window's depth `(S, H, W)` of views that have one already: the geometric mean where both are near."""
        for new, ratio, view in zip(depth, log_ratio, views, strict=True):
            known = self._depth[view]
            with np.errstate(invalid="ignore", divide="ignore"):
                difference = np.log(new * np.float32(np.exp(-ratio) * self._depth_scales[view]) / known)
            near = np.abs(difference) <= MAX_FUSED_DIFFERENCE  # false where either is none
            self._says[view] += 1
            self._depth[view] = np.where(near, known * np.exp(difference / self._says[view]), known)


def _window_views(prediction: Prediction, frames: range) -> WindowViews[int]:
    assert prediction.extrinsics is not None
    camera_to_window = invert_rigid(prediction.extrinsics.astype(np.float64))
    return WindowViews(frames, camera_to_window, prediction.depth, prediction.conf, prediction.sky)


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
    return replace(parts[0], **values, aux={name: join([each[name] for each in aux]) for name in aux[0]})


def _per_view_aux(prediction: Prediction) -> dict[str, np.ndarray]:
    """What holds one entry per view and does not speak of the world of one window alone."""
    return {
        name: value
        for name, value in prediction.aux.items()
        if isinstance(value, np.ndarray) and len(value) == len(prediction.depth) and name != "estimated_extrinsics"
    }
