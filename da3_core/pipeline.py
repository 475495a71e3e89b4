# SPDX-License-Identifier: Apache-2.0
"""From the images of a scene to a prediction and to files: the one path of the commands, the backend and the app."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from da3_core.errors import OptionError
from da3_core.export import export, parse_formats
from da3_core.formats.image_files import open_image_file
from da3_core.model.memory import FreeMemory, check_memory, needed_bytes, operations, views_that_fit
from da3_core.options import SceneOptions
from da3_core.postprocessing import at_input_size
from da3_core.storage.export_folder import ExportFolder
from da3_core.stream.inference import Inference, InferenceInTurn, RequestOf, WindowRequest, bind_predict
from da3_core.stream.joined_windows import join_windows, split_windows

if TYPE_CHECKING:
    import torch

    from da3_core.api import DepthAnything3
    from da3_core.model.presets import Preset
    from da3_core.prediction import Prediction
    from da3_core.sources import SceneImages

logger = logging.getLogger(__name__)


class Stage(Protocol):
    """Shows, or watches over, a stage of the work: a context manager that provides `advance(n)`.

    `advance` is told when `n` more of `total` units are done. What it or the manager raises ends the work there.
    """

    def __call__(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], object]]: ...


class SceneModel(Protocol):
    """What a scene is cut into windows by: a `DepthAnything3`, or what stands for those of other processes."""

    @property
    def preset(self) -> Preset: ...

    @property
    def free_memory(self) -> FreeMemory:
        """Where the network runs."""


def bind_scene(scene: SceneImages) -> RequestOf[int]:
    """What a model is asked about some of the views, by number."""

    def request_of(views: Sequence[int]) -> WindowRequest:
        chosen = list(views)
        return WindowRequest(
            images=tuple(scene.images[view] for view in chosen),
            extrinsics=None if scene.extrinsics is None else scene.extrinsics[chosen],
            intrinsics=None if scene.intrinsics is None else scene.intrinsics[chosen],
        )

    return request_of


def infer_scene(model: DepthAnything3, scene: SceneImages, options: SceneOptions, stage: Stage) -> Prediction:
    """The prediction of all views by a model, see `infer_windows`."""
    return infer_windows(model, scene, options, stage, InferenceInTurn(bind_scene(scene), bind_predict(model, options)))


def infer_windows(
    model: SceneModel, scene: SceneImages, options: SceneOptions, stage: Stage, infer: Inference[int]
) -> Prediction:
    """The prediction of all views: at once where memory allows it, else in windows.

    Args:
        options: as `DepthAnything3.check_scene` returned them.
        infer: of views by number.

    Raises:
        InputError: as `DepthAnything3.predict`, for Gaussians in several windows, and for a GPU without room.
    """
    views = len(scene.images)
    windows = _windows(model.preset, model.free_memory, scene, options)
    if len(windows) > 1:
        logger.info("%d views are processed in %d windows of %d", views, len(windows), len(windows[0]))

    def predictions() -> Iterator[Prediction]:
        with stage("inference", views, "views") as advance:
            done = 0
            for window in infer.ahead(windows, lambda window: window):
                yield infer(window)
                advance(window.stop - done)
                done = window.stop

    joined = join_windows(
        windows, predictions(), same_world=_same_world(scene, options), infer=infer, ahead=infer.ahead
    )
    if options.depth_size == "input":
        joined = at_input_size(joined, scene.images, apply_exif=options.apply_exif)
    return replace(joined, stamps_ns=scene.stamps_ns)


def export_scene(
    prediction: Prediction, folder: ExportFolder, options: SceneOptions, stage: Stage
) -> dict[str, list[Path]]:
    """Write a prediction into a folder: the files of each format, all of them or, if anything fails, none.

    Images may be among what is coming into the folder: they are called what they will be called there.
    """
    said = options.export_options()
    if prediction.image_names is not None:
        names = tuple(str(folder.final(Path(name))) for name in prediction.image_names)
        if names != prediction.image_names and "colmap" in parse_formats(options.export_format):  # it may copy them
            colmap = {"image_names": prediction.image_names, **said["export_kwargs"].get("colmap", {})}
            said["export_kwargs"] = {**said["export_kwargs"], "colmap": colmap}
        prediction = replace(prediction, image_names=names)
    with stage("export", len(parse_formats(options.export_format)), "formats") as advance, folder.staging() as staging:
        files = export(prediction, staging, options.export_format, **said)
        advance(len(files))
    return {name: [folder.path / path.relative_to(staging) for path in paths] for name, paths in files.items()}


@dataclass(frozen=True)
class Cost:
    """What an inference will take.

    Attributes:
        bytes: at once, at least.
        operations: see `memory.operations`.
    """

    bytes: float
    operations: float


def cost_of(preset: Preset, device: torch.device, scene: SceneImages, options: SceneOptions) -> Cost:
    """The cost of `infer_scene`, from the sizes of the images and the memory that is free now.

    Raises:
        InputError: as `infer_scene`, for what takes more than there is.
    """
    windows = _windows(preset, FreeMemory.of(device), scene, options)
    pixels = _processed_pixels(scene.images[0], options, preset)
    sizes = [window.stop - window.start for window in windows]
    return Cost(
        needed_bytes(preset, pixels, max(sizes)),
        sum(operations(preset, pixels, size) for size in sizes),
    )


def _windows(preset: Preset, free: FreeMemory, scene: SceneImages, options: SceneOptions) -> list[range]:
    # With known cameras, no window has a world of its own that others would have to be moved to.
    same_world = _same_world(scene, options)
    size = _window_size(preset, free, scene, options)
    return split_windows(len(scene.images), size, 0 if same_world else size // 2)


def _same_world(scene: SceneImages, options: SceneOptions) -> bool:
    return scene.extrinsics is not None and options.align_to_input_ext_scale


def _window_size(preset: Preset, free: FreeMemory, scene: SceneImages, options: SceneOptions) -> int:
    """Most views of a window."""
    views, most = len(scene.images), options.max_views_per_window
    if options.wants_gaussians and most is not None and views > most:
        raise OptionError(
            "Gaussians of {views} views need all of them at once: raise {max_views_per_window} to {views}, or choose "
            "fewer views",
            views=views,
        )
    pixels = _processed_pixels(scene.images[0], options, preset)
    fitting = max(2, views_that_fit(preset, pixels, free.bytes))
    size = views if options.wants_gaussians else most or fitting
    check_memory(preset, pixels, min(views, size), free.bytes, free.place)
    return size


def _processed_pixels(path: os.PathLike[str], options: SceneOptions, preset: Preset) -> float:
    with open_image_file(path) as image:
        width, height = image.size
    governing = max(width, height) if options.process_res_method.startswith("upper") else min(width, height)
    return float(width * height * ((options.process_res or preset.process_res) / governing) ** 2)
