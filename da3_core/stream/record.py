# SPDX-License-Identifier: Apache-2.0
"""What a session has seen, within bounded memory, handed out as one prediction for the exporters."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from da3_core.errors import InputError
from da3_core.prediction import Prediction
from da3_core.stream.session import View, WindowResult

Scope = Literal["window", "session"]

LARGEST_CONFIDENCE = np.finfo(np.float16).max


@dataclass(frozen=True, eq=False)
class _RecordedView:
    """A `View` without the image as the camera gave it, which may be many times larger; confidence is float16."""

    stamp_ns: int
    original_size: tuple[int, int]
    processed_from_original: np.ndarray | None
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None
    sky: np.ndarray | None
    intrinsics: np.ndarray | None
    world_to_camera: np.ndarray | None

    @classmethod
    def of(cls, view: View) -> "_RecordedView":
        confidence = view.confidence
        return cls(
            stamp_ns=view.frame.stamp_ns,
            original_size=view.frame.image.shape[:2],
            processed_from_original=view.processed_from_original,
            image=view.image,
            depth=view.depth,
            confidence=None if confidence is None else np.minimum(confidence, LARGEST_CONFIDENCE).astype(np.float16),
            sky=view.sky,
            intrinsics=view.intrinsics,
            world_to_camera=view.world_to_camera,
        )


class SessionRecord:
    """The last window and the views of the present map, of these at most `max_views`, evenly spaced. Thread-safe.

    When there are more, every second one is forgotten, and from then on every second new one is left out: of a long
    session between half of `max_views` and `max_views` remain, the first view of the map among them.
    """

    def __init__(self, max_views: int) -> None:
        self._max_views = max_views
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._start_map(None)
            self._window: list[_RecordedView] = []
            self._is_metric = False

    def add(self, result: WindowResult, session: int) -> None:
        """Take in a result of the session of this number; another session or another map replaces the one before."""
        window = [_RecordedView.of(view) for view in result.views]
        with self._lock:
            starts_map = result.placement in ("origin", "last_view") or self._map != (session, result.segment)
            if starts_map:
                self._start_map((session, result.segment))
            for recorded, view in zip(window, result.views, strict=True):
                if view.is_new or starts_map:
                    self._keep(recorded)
            self._window = window
            self._is_metric = result.scale_source != "none"

    def prediction(self, scope: Scope) -> Prediction:
        """The views of the last window or of the session's map so far, oldest first; later results do not change it.

        The world is the map, in the optical axes of its first camera. The names of the images are their stamps in
        nanoseconds. Views without a pose are left out where others have one.

        Raises:
            InputError: nothing has been added.
        """
        with self._lock:
            views, is_metric = list(self._window if scope == "window" else self._kept), self._is_metric
        if not views:
            raise InputError("Nothing has been inferred yet; publish images, then ask again.")
        return _prediction([view for view in views if view.world_to_camera is not None] or views, is_metric)

    def _start_map(self, number: tuple[int, int] | None) -> None:
        self._map = number
        self._kept: list[_RecordedView] = []
        self._seen, self._spacing = 0, 1

    def _keep(self, view: _RecordedView) -> None:
        if self._seen % self._spacing == 0:
            self._kept.append(view)
        self._seen += 1
        if len(self._kept) > self._max_views:
            self._kept = self._kept[::2]
            self._spacing *= 2


def _prediction(views: Sequence[_RecordedView], is_metric: bool) -> Prediction:
    def stack(name: str, dtype: type) -> np.ndarray | None:
        values = [getattr(view, name) for view in views]
        return None if any(value is None for value in values) else np.stack(values).astype(dtype, copy=False)

    return Prediction(
        depth=np.stack([view.depth for view in views]),
        is_metric=int(is_metric),
        conf=stack("confidence", np.float32),
        sky=stack("sky", np.bool_),
        extrinsics=stack("world_to_camera", np.float32),
        intrinsics=stack("intrinsics", np.float32),
        processed_images=np.stack([view.image for view in views]),
        original_sizes=np.array([view.original_size for view in views]),
        processed_from_original=stack("processed_from_original", np.float64),
        image_names=tuple(f"{view.stamp_ns}.png" for view in views),
    )
