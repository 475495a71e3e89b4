# SPDX-License-Identifier: Apache-2.0
"""From images and the choices of a visitor to a prediction and the files that need its Gaussians."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from da3_core.errors import OptionError
from da3_core.export import export
from da3_core.export.video import Quality
from da3_core.geometry.cameras import check_intrinsics
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
    camera_matrix: str | None = option(None, "K of the images in pixels, nine numbers row by row.", unset="unknown")

    def __post_init__(self) -> None:
        """Raises InputError, for several ways to tell the camera too."""
        super().__post_init__()
        told = (self.focal_length_px, self.hfov_deg, self.focal_from_exif, self.camera_matrix)
        if sum(map(bool, told)) > 1:
            raise OptionError(
                "{focal_length_px}, {hfov_deg}, {focal_from_exif} and {camera_matrix} all tell the camera: give one"
            )

    def intrinsics(self, images: Sequence[Path]) -> np.ndarray | None:
        """`(N, 3, 3)` in pixels of the images; None where the visitor knows none.

        Raises:
            InputError: this is no camera of one of them.
        """
        if self.camera_matrix:
            return check_intrinsics(np.tile(_matrix(self.camera_matrix), (len(images), 1, 1)), len(images))
        camera = given_camera(
            CameraOptions(
                focal_px=self.focal_length_px or None,
                hfov_deg=self.hfov_deg or None,
                focal_from_exif=self.focal_from_exif,
            )
        )
        return None if camera is None else camera.of_files(images)


def _matrix(text: str) -> np.ndarray:
    """`(3, 3)` float64 of nine numbers between whatever separates numbers.

    Raises:
        InputError: they are no nine numbers.
    """
    try:
        return np.array([float(number) for number in re.split(r"[\s,;\[\]]+", text.strip(" \n[],;"))]).reshape(3, 3)
    except ValueError:
        raise OptionError("{camera_matrix} has to be nine numbers, row by row") from None


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
    intrinsics = choices.intrinsics(images)
    scene = SceneImages(tuple(images), None, intrinsics)
    return runner.infer(scene, _options(process_res, choices), stage, go_on)


def expected_seconds(runner: ModelRunner, images: Sequence[Path], process_res: int | None, choices: Choices) -> float:
    """What the inference of `reconstruct` will take, by the latest one; 0 where that is not known.

    Raises:
        InputError: it takes more memory than there is.
    """
    return runner.predict(SceneImages(tuple(images)), _options(process_res, choices))[1]


def _options(process_res: int | None, choices: Choices) -> SceneOptions:
    return SceneOptions(
        process_res=process_res,
        process_res_method=PROCESS_RES_METHODS[choices.method],
        ref_view_strategy=choices.ref_view_strategy,
        infer_gs=choices.infer_gs,
        export_format="gs_video-gs_ply" if choices.infer_gs else "depth_vis",
    )


def write_result(prediction: Prediction, folder: Path, choices: Choices) -> Prediction:
    """The files that no control of the page changes; returns what is worth keeping in memory, without Gaussians."""
    export(prediction, folder, "depth_vis")
    if prediction.gaussians is None:
        return prediction
    video = {"trj_mode": CAMERA_PATHS[choices.camera_path], "video_quality": choices.quality, "enable_tqdm": False}
    export(prediction, folder, "gs_video-gs_ply", export_kwargs={"gs_video": video})
    return replace(prediction, gaussians=None)
