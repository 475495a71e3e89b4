# SPDX-License-Identifier: Apache-2.0
"""Views of a long recording for an export: as many as fit, spread evenly over its longest map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from da3_core.prediction import Prediction
from da3_core.stream.session import View, WindowResult

MOST_VIEWS = 200


class ViewCollector:
    """Keeps at most `limit` views of each map, every one, then every second, every fourth as they become many.

    Their images as recorded, which may be many times larger than those that the network saw, are let go.
    """

    def __init__(self, limit: int = MOST_VIEWS) -> None:
        self._limit = limit
        self._longest: list[View] = []
        self._longest_seen = 0
        self._is_metric = self._longest_is_metric = False
        self._map: tuple[int, int] | None = None

    def add(self, result: WindowResult, session: int) -> None:
        """The new views of a result; those of another map are not mixed with those before."""
        if (session, result.segment) != self._map:
            self._map = session, result.segment
            self._views: list[View] = []
            self._seen, self._step = 0, 1
        self._is_metric = result.scale_source != "none"
        for view in result.views:
            if view.is_new:
                if self._seen % self._step == 0:
                    self._views.append(replace(view, frame=replace(view.frame, image=view.image)))
                self._seen += 1
        if len(self._views) > self._limit:
            self._views, self._step = self._views[::2], self._step * 2
        if self._seen > self._longest_seen:
            self._longest, self._longest_seen = self._views, self._seen
            self._longest_is_metric = self._is_metric

    def prediction(self) -> Prediction:
        """All views of the longest map as one prediction; names are their stamps, after those of a rig's cameras."""
        views = self._longest
        return Prediction(
            depth=np.stack([view.depth for view in views]),
            is_metric=int(self._longest_is_metric),
            conf=_stacked([view.confidence for view in views]),
            sky=_stacked([view.sky for view in views]),
            extrinsics=_stacked([view.world_to_camera for view in views], np.float32),
            intrinsics=_stacked([view.intrinsics for view in views], np.float32),
            processed_images=np.stack([view.image for view in views]),
            image_names=_names(views),
        )


def _names(views: Sequence[View]) -> tuple[str, ...]:
    cameras = {view.frame.camera for view in views}
    prefixes = {name: f"{name.strip('/').replace('/', '_')}_" if len(cameras) > 1 else "" for name in cameras}
    return tuple(f"{prefixes[view.frame.camera]}{view.frame.stamp_ns}.png" for view in views)


def _stacked(arrays: list[np.ndarray | None], dtype: Any = None) -> np.ndarray | None:
    """None when one of them is."""
    known = [array for array in arrays if array is not None]
    return np.stack(known).astype(dtype or known[0].dtype) if len(known) == len(arrays) else None
