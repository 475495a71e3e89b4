# SPDX-License-Identifier: Apache-2.0
"""From images and the choices of a visitor to a prediction and the files that need its Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from da3_core.errors import InputError
from da3_core.export import export
from da3_core.export.video import Quality
from da3_core.formats.image_files import open_image_file
from da3_core.geometry.trajectories import Mode
from da3_core.options import ProcessResMethod, RefViewStrategy, SceneOptions
from da3_core.pipeline import Stage
from da3_core.prediction import Prediction
from da3_core.sources import SceneImages
from da3_core.web.model_runner import ModelRunner

Method = Literal["low_res", "high_res"]
CameraPath = Literal["smooth", "extend"]

PROCESS_RES_METHODS: dict[Method, ProcessResMethod] = {
    "low_res": "upper_bound_resize",
    "high_res": "lower_bound_resize",
}
CAMERA_PATHS: dict[CameraPath, Mode] = {"smooth": "interpolate_smooth", "extend": "extend"}


@dataclass(frozen=True)
class Choices:
    """
    Attributes:
        method: `low_res` resizes the longer side to the model's resolution, `high_res` the shorter one.
        infer_gs: predict Gaussians and fly through them.
        camera path: the path of that camera path.
        quality: of its video.
        ref_view_strategy: see `DepthAnything3.inference`.
        focal_length_px: of the images, for models that estimate none; 0 is unknown.
    """

    method: Method = "low_res"
    infer_gs: bool = False
    camera_path: CameraPath = "smooth"
    quality: Quality = "low"
    ref_view_strategy: RefViewStrategy = SceneOptions.ref_view_strategy
    focal_length_px: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what a page never sends."""
        for name, allowed in (("method", Method), ("camera_path", CameraPath), ("quality", Quality)):
            if getattr(self, name) not in get_args(allowed):
                raise InputError(f"{name} is {getattr(self, name)!r}: use one of {', '.join(get_args(allowed))}")
        if not 0 <= self.focal_length_px < 1e6:
            raise InputError(f"the focal length is {self.focal_length_px!r}: give pixels, or 0 if it is unknown")


def reconstruct(
    runner: ModelRunner,
    images: Sequence[Path],
    process_res: int | None,
    choices: Choices,
    stage: Stage,
    go_on: Callable[[], object] = lambda: None,
) -> Prediction:
    """The prediction, with Gaussians where they were asked for.

    Args:
        go_on: see `ModelRunner.infer`.

    Raises:
        InputError: the model cannot be loaded, cannot do this, or has not enough memory for it.
    """
    options = SceneOptions(
        process_res=process_res,
        process_res_method=PROCESS_RES_METHODS[choices.method],
        ref_view_strategy=choices.ref_view_strategy,
        infer_gs=choices.infer_gs,
        export_format="gs_video-gs_ply" if choices.infer_gs else "depth_vis",
    )
    focal_length = choices.focal_length_px
    intrinsics = np.stack([_pinhole(path, focal_length) for path in images]) if focal_length else None
    return runner.infer(SceneImages(tuple(images), None, intrinsics), options, stage, go_on)


def write_result(prediction: Prediction, folder: Path, choices: Choices) -> Prediction:
    """The files that no control of the page changes; returns what is worth keeping in memory, without Gaussians."""
    export(prediction, folder, "depth_vis")
    if prediction.gaussians is None:
        return prediction
    video = {"trj_mode": CAMERA_PATHS[choices.camera_path], "video_quality": choices.quality, "enable_tqdm": False}
    export(prediction, folder, "gs_video-gs_ply", export_kwargs={"gs_video": video})
    return replace(prediction, gaussians=None)


def _pinhole(path: Path, focal_length_px: float) -> np.ndarray:
    with open_image_file(path) as image:
        width, height = image.size
    return np.array([[focal_length_px, 0, width / 2], [0, focal_length_px, height / 2], [0, 0, 1]])
