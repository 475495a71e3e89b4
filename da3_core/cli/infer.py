# SPDX-License-Identifier: Apache-2.0
"""Inference of a scene of any length: at once where memory allows it, else in windows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from da3_core.cli.progress import stage
from da3_core.errors import InputError
from da3_core.memory import free_bytes, views_that_fit
from da3_core.windows import join_windows, split_windows

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.prediction import Prediction
    from da3_core.sources import Scene

logger = logging.getLogger(__name__)


def infer(model: DepthAnything3, scene: Scene, max_views: int | None, **options: Any) -> Prediction:
    """The prediction of all views.

    Args:
        max_views: most views of a window; None for what fits into the free memory.
        **options: of `DepthAnything3.inference`.

    Raises:
        InputError: as `inference`, and for Gaussians in several windows.
    """
    views = len(scene.images)
    # With known cameras, no window has a world of its own that others would have to be moved to.
    same_world = scene.extrinsics is not None and options["align_to_input_ext_scale"]
    if options["infer_gs"] and max_views is not None and views > max_views:
        raise InputError(
            f"Gaussians of {views} views need all of them at once: raise --max-views-per-window to {views}, "
            "or choose fewer views"
        )
    size = max_views or (views if options["infer_gs"] else _views_that_fit(model, scene, options))
    windows = split_windows(views, size, 0 if same_world else size // 2)
    if len(windows) > 1:
        logger.info("%d views are processed in %d windows of %d", views, len(windows), size)

    def predictions() -> Iterator[Prediction]:
        with stage("inference", views, "views") as advance:
            done = 0
            for window in windows:
                chosen = slice(window.start, window.stop)
                yield model.inference(
                    scene.images[chosen],
                    extrinsics=None if scene.extrinsics is None else scene.extrinsics[chosen],
                    intrinsics=None if scene.intrinsics is None else scene.intrinsics[chosen],
                    **options,
                )
                advance(window.stop - done)
                done = window.stop

    return join_windows(windows, predictions(), same_world=same_world)


def _views_that_fit(model: DepthAnything3, scene: Scene, options: dict[str, Any]) -> int:
    from PIL import Image

    with Image.open(scene.images[0]) as image:
        width, height = image.size
    governing = max(width, height) if options["process_res_method"].startswith("upper") else min(width, height)
    pixels = width * height * (options["process_res"] / governing) ** 2
    return max(2, views_that_fit(model.preset, pixels, free_bytes(model.device)))
