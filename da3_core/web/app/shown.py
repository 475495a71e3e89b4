# SPDX-License-Identifier: Apache-2.0
"""What the page shows of a visit: values for its components, always in the order that `layout` lists them in."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from da3_core.errors import InputError
from da3_core.export import left_out
from da3_core.prediction import Prediction
from da3_core.visualise import colorize_depth
from da3_core.web.app.clouds import CloudOptions, write_cloud
from da3_core.web.app.downloads import write_downloads
from da3_core.web.app.measure import Pixel, draw_pixels, measure
from da3_core.web.app.visits import Visit

HINT = "Click two points of the image or of the depth."
NO_CAMERA_PATH = "There is no camera path: it takes Gaussians, which giant models predict when they are asked to."
DOWNLOADS = ("GLB", "NPZ", "PLY", "COLMAP", "K.txt", "Gaussians")


def no_result() -> tuple[Any, ...]:
    """As `result`, and then as `no_downloads`."""
    view = gr.Dropdown(choices=[], value=None, interactive=False)
    return None, "", view, None, None, HINT, [], None, NO_CAMERA_PATH, *no_downloads()


def result(visit: Visit, prediction: Prediction, options: CloudOptions, *details: str) -> tuple[Any, ...]:
    """Cloud, summary, choice of views, then as `one_view`, then the camera path and a hint about it.

    Args:
        details: what else the summary says.
    """
    choices = [(f"{number}: {path.name}", number - 1) for number, path in enumerate(visit.images, 1)]
    summary = _summary(prediction, *details)
    cloud = None
    try:
        cloud = str(write_cloud(prediction, 0, visit.result_folder, options))
    except InputError as error:
        summary += f"\n\n{html.escape(str(error), quote=False)}"
    video = next(visit.result_folder.glob("gs_video/*.mp4"), None)
    view = gr.Dropdown(choices=choices, value=0, interactive=True)
    return cloud, summary, view, *one_view(prediction, 0), video and str(video), "" if video else NO_CAMERA_PATH


def one_view(prediction: Prediction, view: int, points: Sequence[Pixel] = ()) -> tuple[Any, ...]:
    """Image, depth, measurement and its points."""
    assert prediction.processed_images is not None
    pictures = (prediction.processed_images[view], colorize_depth(prediction.depth[view]))
    text = str(measure(prediction, view, points)) if points else HINT
    return *(draw_pixels(picture, points) for picture in pictures), text, list(points)


def downloads(visit: Visit, prediction: Prediction, view: int, options: CloudOptions) -> tuple[Any, ...]:
    """A button for each of `DOWNLOADS`."""
    files = write_downloads(prediction, view, visit.result_folder, options)
    return tuple(_button(files[name]) for name in DOWNLOADS)


def no_downloads() -> tuple[Any, ...]:
    """As `downloads`."""
    return tuple(_button(None) for _ in DOWNLOADS)


def count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def images(paths: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> str:
    """How many, and whether they are of both orientations; `sizes` are widths and heights."""
    text = count(len(paths), "image")
    upright = sum(width < height for width, height in sizes)
    if upright and upright < len(sizes):
        text += (
            f": {upright} upright, {len(sizes) - upright} wide. Each will be cropped to the middle that all have; "
            "upload only one kind to keep them whole."
        )
    return text


def _summary(prediction: Prediction, *details: str) -> str:
    views, height, width = prediction.depth.shape
    unit = "metres" if prediction.is_metric else "the model's unit"
    text = " · ".join([count(views, "view"), f"{width} × {height} pixels", f"depth in {unit}", *details])
    if prediction.extrinsics is None and prediction.usable_intrinsics is not None and views > 1:
        text += "\n\nThe cameras could not be placed in one world: the cloud is that of the selected view."
    elif lacking := left_out(prediction, "glb"):
        text += f"\n\n{html.escape(lacking[0].upper() + lacking[1:], quote=False)}."
    if prediction.intrinsics is None and prediction.usable_intrinsics is not None:
        text += "\n\nThe proportions are a guess, by an assumed field of view of 60°: give the focal length."
    if cropped := prediction.cropped():
        text += f"\n\n{cropped}"
    return text


def _button(path: Path | None) -> Any:
    return gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)
