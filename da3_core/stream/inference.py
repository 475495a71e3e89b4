# SPDX-License-Identifier: Apache-2.0
"""How the windows of a stream become predictions: what a model is asked, and who is asked when.

A window's inference knows nothing of the windows before it. So windows may be inferred in any order and anywhere, as
long as what places them hears of them in theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from da3_core.options import InferenceOptions
from da3_core.prediction import Prediction
from da3_core.storage.allowed_folders import AllowedFile
from da3_core.stream.frame import Frame
from da3_core.stream.known_cameras import poses_to_condition_on

View = TypeVar("View")  # what a source calls a view: a frame, or the number of an image
AskedView = TypeVar("AskedView", contravariant=True)
Window = TypeVar("Window")
Decoded: TypeAlias = tuple[int, ...] | None  # numbers of the views of a window whose depth is wanted; None for all


@dataclass(frozen=True, eq=False)
class WindowRequest:
    """What a model is asked about one window.

    Attributes:
        images: of `N` views: files, or frames with their pixels.
        extrinsics: `(N, 4, 4)` world-to-camera, or None.
        intrinsics: `(N, 3, 3)` in pixels of the images, or None.
        decoded: numbers of the views whose depth is wanted, or None for all.
    """

    images: tuple[Path | AllowedFile | Frame, ...]
    extrinsics: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    decoded: Decoded = None


@dataclass(frozen=True)
class WindowRow:
    """What became of a window.

    Attributes:
        views: of it.
        worker: who inferred it: empty for this process, `kept` where an earlier run had.
        seconds: that it took.
        lost_workers: that ended while they were at it.
        error: why there is no prediction, or None.
    """

    views: int
    worker: str
    seconds: float
    lost_workers: int = 0
    error: str | None = None


WindowLog: TypeAlias = Callable[[WindowRow], object]
RequestOf: TypeAlias = Callable[[Sequence[View]], WindowRequest]
Predict: TypeAlias = Callable[[WindowRequest], Prediction]


def all_decoded(window: object) -> Decoded:
    """The depth of all views is wanted."""
    return None


def decoded_views(
    frames: Sequence[Frame], old: Sequence[int], most: int | None, placing: Sequence[int] | None = None
) -> Decoded:
    """Of the frames of a window those whose depth is wanted: all but the `old` ones, and of these `most`, which place
    the window; None where that is all. The newest is among them, the others are spread.

    Where poses of the cameras are known, every depth tells the scale.

    Args:
        placing: of the old ones those that can place a window; None for all.
    """
    if most is None or len(old) <= most or any(frame.world_to_camera is not None or frame.rig for frame in frames):
        return None
    placing = placing or old
    count = min(most, len(placing))
    kept = {placing[-1 - round(i * (len(placing) - 1) / max(count - 1, 1))] for i in range(count)}
    return tuple(i for i in range(len(frames)) if i in kept or i not in old)


class Inference(Protocol[AskedView]):
    """Gives the prediction of some views, whenever it is asked; told what comes, it may begin before that."""

    def __call__(self, views: Sequence[AskedView], decoded: Decoded = None) -> Prediction: ...

    def ahead(
        self,
        windows: Iterable[Window],
        views_of: Callable[[Window], Sequence[Any]],
        decoded_of: Callable[[Window], Decoded] = all_decoded,
    ) -> Iterator[Window]:
        """The same windows in the same order. It reads ahead as far as it likes, and infers what it has read.

        Args:
            views_of: of a window; none where it will not be asked for.
            decoded_of: what it will probably be asked for.
        """


class Ahead(Protocol):
    """See `Inference.ahead`."""

    def __call__(self, windows: Iterable[Window], views_of: Callable[[Window], Sequence[Any]]) -> Iterator[Window]: ...


def in_turn(windows: Iterable[Window], views_of: Callable[[Window], Sequence[Any]]) -> Iterator[Window]:
    """The plain one of these: nothing is read before it is asked for."""
    return iter(windows)


class InferenceInTurn(Generic[View]):
    """The plain one: a window is inferred when it is asked for, here."""

    def __init__(self, request_of: RequestOf[View], predict: Predict, log: WindowLog = lambda row: None) -> None:
        self._request_of, self._predict, self._log = request_of, predict, log

    def __call__(self, views: Sequence[View], decoded: Decoded = None) -> Prediction:
        start = time.perf_counter()
        try:
            prediction = self._predict(replace(self._request_of(views), decoded=decoded))
        except Exception as error:
            self._log(WindowRow(len(views), "", time.perf_counter() - start, error=str(error)))
            raise
        self._log(WindowRow(len(views), "", time.perf_counter() - start))
        return prediction

    def ahead(
        self,
        windows: Iterable[Window],
        views_of: Callable[[Window], Sequence[Any]],
        decoded_of: Callable[[Window], Decoded] = all_decoded,
    ) -> Iterator[Window]:
        return in_turn(windows, views_of)


def bind_predict(model: Any, options: InferenceOptions) -> Predict:
    """A `DepthAnything3` with its options, as `check` returned them.

    What it makes of a view by itself is kept for the next windows that hold the same frame, or the same file.
    """
    kept = model.kept_views() if hasattr(model, "kept_views") else None  # what stands for a model may lack it

    def predict(request: WindowRequest) -> Prediction:
        images = [each.image if isinstance(each, Frame) else each for each in request.images]
        prediction: Prediction = model.predict(
            images,
            options,
            extrinsics=request.extrinsics,
            intrinsics=request.intrinsics,
            **({} if kept is None else {"known": kept.known(request.images)}),
            **({} if request.decoded is None else {"decoded": request.decoded}),
        )
        return prediction

    return predict


def bind_frames(model: Any, options: InferenceOptions) -> RequestOf[Frame]:
    """What a model is asked about frames; a network that sees known poses is shown them.

    Args:
        options: as `check` returned them.
    """
    sees_poses = model.preset.has_poses and options.pose_method != "features"

    def request_of(frames: Sequence[Frame]) -> WindowRequest:
        intrinsics = [frame.intrinsics for frame in frames if frame.intrinsics is not None]
        return WindowRequest(
            images=tuple(frames),
            extrinsics=poses_to_condition_on(frames) if sees_poses else None,
            intrinsics=np.stack(intrinsics) if len(intrinsics) == len(frames) else None,
        )

    return request_of


def bind_inference(model: Any, options: InferenceOptions) -> InferenceInTurn[Frame]:
    """The inference of a `DepthAnything3` over frames.

    Raises:
        InputError: the model cannot do what the options ask for.
    """
    chosen = model.check(options)
    return InferenceInTurn(bind_frames(model, chosen), bind_predict(model, chosen))
