# SPDX-License-Identifier: Apache-2.0
"""The point cloud as the controls want it, from a prediction that is there already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from da3_core.errors import InputError
from da3_core.export import export
from da3_core.export.points import background_pixels
from da3_core.options import LEAST_CONFIDENT, Checked, option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class CloudOptions(Checked):
    """Which points are drawn, for every format that holds points."""

    show_cameras: bool = option(True, "Draw a frustum per view (GLB).")
    filter_black: bool = option(False, "Leave out pixels with all channels below 16.")
    filter_white: bool = option(False, "Leave out pixels with all channels of at least 240.")
    filter_percentage: float = option(
        LEAST_CONFIDENT, "Leave out this share of the pixels, the least confident; percent.", low=0, high=100
    )
    max_points: int = option(1_000_000, "Beyond it points are drawn at random, seeded.", low=0, high=100_000_000)

    def export_options(self) -> dict[str, Any]:
        """Keyword arguments of `export.export`; the percentage is all that decides about confidence."""
        return {
            "show_cameras": self.show_cameras,
            "conf_thresh_percentile": self.filter_percentage,
            "num_max_points": self.max_points,
            "export_kwargs": {
                "glb": {"conf_thresh": 0.0, "ensure_thresh_percentile": 100.0, "export_depth_vis": False},
            },
        }


def write_cloud(prediction: Prediction, view: int, folder: Path, options: CloudOptions) -> Path:
    """`scene.glb` and its image `scene.jpg`.

    Args:
        view: whose cloud is drawn where the views have no poses.

    Raises:
        InputError: not even that view has intrinsics.
    """
    export(drawable(prediction, view, options), folder, "glb", **options.export_options())
    return folder / "scene.glb"


def drawable(prediction: Prediction, view: int, options: CloudOptions) -> Prediction:
    """What has a place in space, without the background: all views, or the one if none has a pose.

    Raises:
        InputError: there are no intrinsics.
    """
    if prediction.usable_intrinsics is None:
        raise InputError("no point cloud, because this model estimates no intrinsics: give the focal length")
    chosen = prediction if prediction.extrinsics is not None else prediction.views(slice(view, view + 1))
    if not (options.filter_black or options.filter_white):
        return chosen
    assert chosen.processed_images is not None
    background = background_pixels(chosen.processed_images, black=options.filter_black, white=options.filter_white)
    return replace(chosen, depth=np.where(background, np.float32(np.nan), chosen.depth))
