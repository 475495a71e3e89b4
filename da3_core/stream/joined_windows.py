# SPDX-License-Identifier: Apache-2.0
"""More views than memory takes at once: overlapping windows, each inferred by itself, joined into one prediction.

For recorded views. A live stream goes through `session.Session`, which places windows by the same alignment.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.alignment import PosedDepth, align_window
from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import PER_VIEW, Prediction

logger = logging.getLogger(__name__)


def split_windows(views: int, size: int, overlap: int) -> list[range]:
    """Windows of `size` consecutive views that cover all `views`; neighbours share at least `overlap` of them."""
    if views <= size:
        return [range(views)]
    steps = -(-(views - size) // (size - overlap))
    starts = [step * (views - size) // steps for step in range(steps + 1)]
    return [range(start, start + size) for start in starts]


def join_windows(windows: Sequence[range], predictions: Iterable[Prediction], *, same_world: bool) -> Prediction:
    """The predictions of consecutive windows as one, in the world and the unit of the first.

    A view that two windows share keeps what the earlier one said. If one window knows no cameras, the result has none.

    Args:
        windows: the views of each prediction, from `split_windows`.
        predictions: of the windows, in order; asked for one after the other.
        same_world: they share a world and a unit already, so nothing needs to be moved.

    Raises:
        InputError: the windows' processed images differ in size.
    """
    pairs = zip(windows, predictions, strict=True)
    previous, placed = next(pairs)  # `placed` holds all views of the last window, in the world of the first
    parts, scale = [placed], 1.0
    for window, prediction in pairs:
        if prediction.depth.shape[1:] != placed.depth.shape[1:]:
            raise InputError(
                "the images differ in size, so they cannot be processed in several windows: "
                "resize them to one size, or allow all of them in one window"
            )
        earlier = _views(placed, slice(window.start - previous.start, None))
        if not same_world:
            prediction, scale = _moved(prediction, earlier, scale, window)
        parts.append(_views(prediction, slice(len(earlier.depth), None)))
        previous, placed = window, _concatenated([earlier, parts[-1]])
    return parts[0] if len(parts) == 1 else _concatenated(parts)


def _moved(
    prediction: Prediction, earlier: Prediction, expected_scale: float, window: range
) -> tuple[Prediction, float]:
    """A prediction brought into the world and unit of the earlier one of its first views, and its scale there."""
    if prediction.extrinsics is None or earlier.extrinsics is None:
        logger.warning(
            "views %d to %d cannot be joined to those before them without cameras", window.start, window.stop - 1
        )
        return replace(prediction, extrinsics=None), expected_scale
    assert earlier.intrinsics is not None
    first_views = _views(prediction, slice(len(earlier.depth)))
    alignment = align_window(
        _posed_depths(earlier), _posed_depths(first_views), list(earlier.intrinsics), expected_scale
    )
    if alignment.method != "points":
        logger.warning(
            "views %d to %d do not match the views before them, so where they lie is a guess from %s they share",
            window.start,
            window.stop - 1,
            "the cameras" if alignment.method == "poses" else "one camera",
        )
    to_first = alignment.window_to_map
    camera_to_world = to_first.transform_camera(invert_rigid(prediction.extrinsics.astype(np.float64)))
    moved = replace(
        prediction,
        depth=prediction.depth * np.float32(to_first.scale),
        extrinsics=invert_rigid(camera_to_world).astype(np.float32),
    )
    return moved, to_first.scale


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
