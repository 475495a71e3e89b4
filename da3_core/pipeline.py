# SPDX-License-Identifier: Apache-2.0
"""From the images of a scene to a prediction and to files: the one path of the commands, the backend and the app."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from da3_core.errors import OptionError
from da3_core.export import check_request, export, parse_formats
from da3_core.model.memory import check_memory, free_bytes, views_that_fit
from da3_core.options import InferenceOptions
from da3_core.storage.export_folder import ExportFolder
from da3_core.stream.joined_windows import join_windows, split_windows

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.prediction import Prediction
    from da3_core.sources import SceneImages

logger = logging.getLogger(__name__)


class Stage(Protocol):
    """Shows, or watches over, a stage of the work: a context manager that provides `advance(n)`.

    `advance` is told when `n` more of `total` units are done. What it or the manager raises ends the work there.
    """

    def __call__(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], object]]: ...


@dataclass(frozen=True, eq=False)
class SceneOptions(InferenceOptions):
    """What is computed for a scene and written of it; see `DepthAnything3.inference`. None stands for the default.

    An export format that there is not raises InputError at once.

    Attributes:
        infer_gs: predict Gaussians; by default if a format needs them.
        max_views_per_window: more views than this are processed in overlapping windows; by default what fits into the
            free memory.
    """

    infer_gs: bool | None = None
    max_views_per_window: int | None = None
    export_format: str = "glb"
    export_feat_layers: Sequence[int] | None = None
    export_kwargs: Mapping[str, Mapping[str, Any]] | None = None
    conf_thresh_percentile: float | None = None
    num_max_points: int | None = None
    show_cameras: bool | None = None
    feat_vis_fps: int | None = None
    render_exts: Any = None
    render_ixts: Any = None
    render_hw: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        parse_formats(self.export_format)

    @property
    def formats(self) -> tuple[str, ...]:
        return parse_formats(self.export_format)

    @property
    def wants_gaussians(self) -> bool:
        return any(name.startswith("gs_") for name in self.formats) if self.infer_gs is None else self.infer_gs

    def export_options(self) -> dict[str, Any]:
        """Keyword arguments of `export.export`."""
        names = ("export_kwargs", "conf_thresh_percentile", "num_max_points", "show_cameras", "feat_vis_fps")
        return {name: getattr(self, name) for name in (*names, "render_exts", "render_ixts", "render_hw")}


def check_scene(model: DepthAnything3, options: SceneOptions, *, views: int, has_cameras: bool) -> None:
    """Refuse, before any work, what the model cannot do or a format cannot hold.

    Raises:
        InputError: in one sentence.
    """
    method = model.resolve_pose_method(options.pose_method, use_ray_pose=options.use_ray_pose)
    check_request(
        options.export_format,
        model.preset,
        views=views,
        intrinsics_known=has_cameras,
        infer_gs=options.wants_gaussians,
        export_feat_layers=options.export_feat_layers,
        poses_from_features=method == "features" and views >= 2,
        **options.export_options(),
    )


def infer_scene(model: DepthAnything3, scene: SceneImages, options: SceneOptions, stage: Stage) -> Prediction:
    """The prediction of all views: at once where memory allows it, else in windows.

    Raises:
        InputError: as `DepthAnything3.inference`, for Gaussians in several windows, and for a GPU without room.
    """
    views = len(scene.images)
    # With known cameras, no window has a world of its own that others would have to be moved to.
    same_world = scene.extrinsics is not None and options.align_to_input_ext_scale
    size = _window_size(model, scene, options)
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
                    align_to_input_ext_scale=options.align_to_input_ext_scale,
                    infer_gs=options.wants_gaussians,
                    use_ray_pose=options.use_ray_pose,
                    pose_method=options.pose_method,
                    ref_view_strategy=options.ref_view_strategy,
                    process_res=options.process_res,
                    process_res_method=options.process_res_method,
                    export_feat_layers=options.export_feat_layers,
                )
                advance(window.stop - done)
                done = window.stop

    return join_windows(windows, predictions(), same_world=same_world)


def export_scene(
    prediction: Prediction, folder: ExportFolder, options: SceneOptions, stage: Stage
) -> dict[str, list[Path]]:
    """Write a prediction into a folder: the files of each format, all of them or, if anything fails, none."""
    with stage("export", len(options.formats), "formats") as advance, folder.staging() as staging:
        files = export(prediction, staging, options.export_format, **options.export_options())
        advance(len(options.formats))
    return {name: [folder.path / path.relative_to(staging) for path in paths] for name, paths in files.items()}


def _window_size(model: DepthAnything3, scene: SceneImages, options: SceneOptions) -> int:
    """Most views of a window."""
    views, most = len(scene.images), options.max_views_per_window
    if options.wants_gaussians and most is not None and views > most:
        raise OptionError(
            "Gaussians of {views} views need all of them at once: raise {max_views_per_window} to {views}, or choose "
            "fewer views",
            views=views,
        )
    pixels, free = _processed_pixels(scene.images[0], model, options), free_bytes(model.device)
    fitting = max(2, views_that_fit(model.preset, pixels, free))
    size = views if options.wants_gaussians else most or fitting
    if model.device.type == "cuda":
        check_memory(model.preset, pixels, min(views, size), free)
    return size


def _processed_pixels(path: Path, model: DepthAnything3, options: SceneOptions) -> float:
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    governing = max(width, height) if options.process_res_method.startswith("upper") else min(width, height)
    process_res = options.process_res or model.preset.process_res
    return float(width * height * (process_res / governing) ** 2)
