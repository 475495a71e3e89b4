# SPDX-License-Identifier: Apache-2.0
"""From images and the choices of a visitor to a prediction and the files that need its Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from da3_core.errors import OptionError
from da3_core.export import export
from da3_core.export.video import Quality
from da3_core.geometry.trajectories import Mode
from da3_core.options import (
    CameraOptions,
    Checked,
    ProcessResMethod,
    RefViewStrategy,
    SceneOptions,
    option,
    same_option,
)
from da3_core.pipeline import Stage
from da3_core.prediction import Prediction
from da3_core.sources import SceneImages
from da3_core.sources.given_camera import given_camera
from da3_core.web.model_runner import ModelRunner

Method = Literal["low_res", "high_res"]
CameraPath = Literal["smooth", "extend"]

PROCESS_RES_METHODS: dict[Method, ProcessResMethod] = {
    "low_res": "upper_bound_resize",
    "high_res": "lower_bound_resize",
}
CAMERA_PATHS: dict[CameraPath, Mode] = {"smooth": "interpolate_smooth", "extend": "extend"}


@dataclass(frozen=True)
class Choices(Checked):
    """What a visitor chooses before a reconstruction; what a page never sends is refused."""

    method: Method = option(
        "low_res", "Which side is resized to the model's resolution: the longer (low_res), or the shorter (high_res)."
    )
    infer_gs: bool = option(False, "Predict Gaussians and fly through them.")
    camera_path: CameraPath = option("smooth", "How the camera moves there.")
    quality: Quality = option("low", "Of its video.")
    ref_view_strategy: RefViewStrategy = same_option(SceneOptions, "ref_view_strategy")
    focal_length_px: float = option(0.0, "Pixels of the images; 0: unknown.", low=0, high=1e6)
    hfov_deg: float = option(0.0, "Degrees, over the width of the images; 0: unknown.", low=0, high=179)
    focal_from_exif: bool = same_option(CameraOptions, "focal_from_exif")

    def __post_init__(self) -> None:
        """Raises InputError, for several ways to tell the camera too."""
        super().__post_init__()
        if sum(map(bool, (self.focal_length_px, self.hfov_deg, self.focal_from_exif))) > 1:
            raise OptionError("{focal_length_px}, {hfov_deg} and {focal_from_exif} all tell the camera: give one")

    @property
    def camera(self) -> CameraOptions:
        return CameraOptions(
            focal_px=self.focal_length_px or None, hfov_deg=self.hfov_deg or None, focal_from_exif=self.focal_from_exif
        )


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
    camera = given_camera(choices.camera)
    intrinsics = None if camera is None else camera.of_files(images)
    return runner.infer(SceneImages(tuple(images), None, intrinsics), options, stage, go_on)


def write_result(prediction: Prediction, folder: Path, choices: Choices) -> Prediction:
    """The files that no control of the page changes; returns what is worth keeping in memory, without Gaussians."""
    export(prediction, folder, "depth_vis")
    if prediction.gaussians is None:
        return prediction
    video = {"trj_mode": CAMERA_PATHS[choices.camera_path], "video_quality": choices.quality, "enable_tqdm": False}
    export(prediction, folder, "gs_video-gs_ply", export_kwargs={"gs_video": video})
    return replace(prediction, gaussians=None)
