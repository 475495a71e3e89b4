# SPDX-License-Identifier: Apache-2.0
"""The options that commands share, declared once: a dataclass per group, a field per option.

A command takes a whole group as one parameter; `flatten_arguments` spreads its fields out for typer.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from da3_core.options import (
    DEFAULT_MODEL,
    InferenceOptions,
    PoseMethod,
    Precision,
    ProcessResMethod,
    RefViewStrategy,
    WeightsLicence,
)
from da3_core.sources.video import FrameFormat, Sampling

if TYPE_CHECKING:
    from da3_core.pipeline import SceneOptions

Result = TypeVar("Result")

FORMAT_DEFAULT = "the format's"
BACKEND_TOKEN = "DA3_BACKEND_TOKEN"

# The options that are not called like the field that they set.
OPTIONS = {
    "export_feat_layers": "--export-feat",
    "start_s": "--start",
    "end_s": "--end",
    "duration_s": "--duration",
    "sync_slop_s": "--sync-slop",
    "max_gap_s": "--max-gap",
    "image_topics": "--image-topic",
    "camera_info_topics": "--camera-info-topic",
}


def option_of(field: str) -> str:
    """`pose_source` -> `--pose-source`, `image_topics` -> `--image-topic`."""
    return OPTIONS.get(field) or f"--{field.replace('_', '-')}"


@dataclass(frozen=True)
class WeightsArguments:
    """Which network, and where it runs."""

    model_dir: Annotated[
        str,
        typer.Option(
            "--model-dir",
            "--model",
            help="Hub id, local folder, model name, embedded (needs no hub; soft, relative depth), untrained:NAME, or "
            "auto: DA3-BASE where it is cached or the hub answers, else embedded.",
        ),
    ] = DEFAULT_MODEL
    device: Annotated[
        str, typer.Option(help="A torch device (cpu, cuda, cuda:1, mps), or auto: CUDA, else MPS, else CPU.")
    ] = "auto"
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the backbone.")] = "auto"
    weights_licence: Annotated[
        WeightsLicence, typer.Option(help="permissive: refuse weights whose licence forbids commercial use.")
    ] = "any"


@dataclass(frozen=True)
class ServedModelArguments(WeightsArguments):
    """Which network a service lends, where it runs, and how long it stays."""

    unload_after: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds without use after which the model is unloaded.", show_default="never"),
    ] = None


@dataclass(frozen=True)
class ModelArguments(WeightsArguments):
    """Which network, where it runs, and how it sees an image."""

    process_res: Annotated[
        int | None,
        typer.Option(
            min=14,
            help="Length in pixels that the longer or shorter side is resized to.",
            show_default="the model's: 504, of embedded 224",
        ),
    ] = InferenceOptions.process_res
    process_res_method: Annotated[
        ProcessResMethod,
        typer.Option(help="upper: the longer side is resized to --process-res; lower: the shorter side."),
    ] = InferenceOptions.process_res_method
    use_ray_pose: Annotated[bool, typer.Option(help="The same as --pose-method rays.")] = InferenceOptions.use_ray_pose
    pose_method: Annotated[
        PoseMethod,
        typer.Option(
            help="Where cameras come from. decoder: the network; rays: its ray head, principal point included, slower; "
            "features: matches between the images and depth; auto: the decoder of models that have one, else features."
        ),
    ] = InferenceOptions.pose_method
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False


@dataclass(frozen=True)
class ExportArguments:
    """What is computed for the views and written where."""

    export_dir: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("workspace/gallery/scene")
    export_format: Annotated[str, typer.Option(help="Formats joined by hyphens, such as mini_npz-glb-depth_vis.")] = (
        "glb"
    )
    export_feat: Annotated[str, typer.Option(help="Backbone blocks whose features are exported, such as 0,5,11.")] = ""
    export_kwargs: Annotated[
        str, typer.Option(help="Options of formats: FORMAT:KEY:VALUE, several joined by commas.")
    ] = ""
    infer_gs: Annotated[
        bool | None,
        typer.Option(help="Predict 3-D Gaussians (giant and nested models).", show_default="on for gs formats"),
    ] = None
    ref_view_strategy: Annotated[
        RefViewStrategy, typer.Option(help="How the view that others refer to is chosen, from 3 views on.")
    ] = InferenceOptions.ref_view_strategy
    conf_thresh_percentile: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Points less confident than this percentile are left out of clouds.",
            show_default=FORMAT_DEFAULT,
        ),
    ] = None
    num_max_points: Annotated[
        int | None, typer.Option(min=0, help="Most points of a GLB.", show_default=FORMAT_DEFAULT)
    ] = None
    show_cameras: Annotated[
        bool | None, typer.Option(help="Draw the cameras into a GLB.", show_default=FORMAT_DEFAULT)
    ] = None
    feat_vis_fps: Annotated[
        int | None, typer.Option(min=1, help="Frames per second of feature videos.", show_default=FORMAT_DEFAULT)
    ] = None
    max_views_per_window: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Process more views than this in overlapping windows and join them.",
            show_default="what fits into the free memory",
        ),
    ] = None
    auto_cleanup: Annotated[
        bool,
        typer.Option(
            "--auto-cleanup/--no-auto-cleanup", "--yes", help="Empty an existing export folder without asking."
        ),
    ] = False
    force_cleanup: Annotated[
        bool, typer.Option("--force-cleanup", help="As --auto-cleanup, also for a folder that da3 did not create.")
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Keep an existing export folder and replace files of the same name.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print a JSON summary instead of the written paths.")] = False


@dataclass(frozen=True)
class BackendArguments:
    """Whether another process does the work, and which."""

    use_backend: Annotated[
        bool, typer.Option("--use-backend/--no-use-backend", help="Have `da3 backend` do the work, with its model.")
    ] = False
    backend_url: Annotated[str, typer.Option(help="Where the backend listens.")] = "http://localhost:8008"
    backend_token: Annotated[
        str | None, typer.Option(envvar=BACKEND_TOKEN, help="What the backend asks for.", show_default="none")
    ] = None
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="--no-wait: print the id of the task, and leave it to the backend.")
    ] = True


@dataclass(frozen=True)
class VideoArguments:
    """Which frames of a video are used."""

    fps: Annotated[float, typer.Option(help="Frames taken per second of video, chosen by their time stamps.")] = (
        Sampling.fps
    )
    start: Annotated[float, typer.Option(help="Seconds into the video.")] = Sampling.start_s
    end: Annotated[float | None, typer.Option(help="Seconds into the video.", show_default="its end")] = Sampling.end_s
    max_frames: Annotated[
        int | None, typer.Option(help="Spread at most so many frames evenly.", show_default="no limit")
    ] = Sampling.max_frames
    frame_format: Annotated[FrameFormat, typer.Option(help="Of the frames that are written.")] = "png"

    def sampling(self) -> Sampling:
        return Sampling(self.fps, self.start, self.end, self.max_frames)


@dataclass(frozen=True)
class ColmapArguments:
    """How a COLMAP reconstruction is used."""

    sparse_subdir: Annotated[
        str, typer.Option(help="The model within sparse/, such as 0.", show_default="sparse/ itself, else sparse/0")
    ] = ""
    align_to_input_ext_scale: Annotated[
        bool, typer.Option(help="Put the results into the frame and unit of the reconstruction.")
    ] = InferenceOptions.align_to_input_ext_scale
    undistort: Annotated[bool, typer.Option(help="Rectify images of cameras with lens distortion.")] = True


def scene_options(model: ModelArguments, output: ExportArguments, align_to_input_ext_scale: bool) -> "SceneOptions":
    """What the arguments ask for, as the work takes it.

    Raises:
        InputError: an export format that there is not.
        typer.BadParameter: a list that is not written as its option wants it.
    """
    from da3_core.pipeline import SceneOptions  # only now, because it imports NumPy

    return SceneOptions(
        process_res=model.process_res,
        process_res_method=model.process_res_method,
        align_to_input_ext_scale=align_to_input_ext_scale,
        use_ray_pose=model.use_ray_pose,
        pose_method=model.pose_method,
        ref_view_strategy=output.ref_view_strategy,
        infer_gs=output.infer_gs,
        max_views_per_window=output.max_views_per_window,
        export_format=output.export_format,
        export_feat_layers=parse_layers(output.export_feat),
        export_kwargs=parse_export_kwargs(output.export_kwargs),
        conf_thresh_percentile=output.conf_thresh_percentile,
        num_max_points=output.num_max_points,
        show_cameras=output.show_cameras,
        feat_vis_fps=output.feat_vis_fps,
    )


def flatten_arguments(command: Callable[..., Result]) -> Callable[..., Result]:
    """Spread each dataclass parameter of `command` over its fields, so that typer sees one option per field."""
    parameters = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {
        parameter.name: parameter.annotation for parameter in parameters if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def flat(**values: Any) -> Result:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    plain = [parameter for parameter in parameters if parameter.name not in groups]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for group in groups.values()
        for field in fields(group)
    ]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in plain]
    flat.__signature__ = inspect.Signature([*keyword_only, *options])  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in [*keyword_only, *options]}
    return flat


def parse_layers(text: str) -> list[int] | None:
    """`"0, 5,11"` -> `[0, 5, 11]`; an empty text -> None."""
    try:
        return [int(part) for part in text.split(",")] if text.strip() else None
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a list of block numbers: write them as 0,5,11", param_hint="--export-feat"
        ) from None


def parse_export_kwargs(text: str) -> dict[str, dict[str, Any]]:
    """`"glb:camera_size:0.1,colmap:text:true"` -> `{"glb": {"camera_size": 0.1}, "colmap": {"text": True}}`.

    A value is `true`, `false`, `none`, an integer, a float or else a string, which may contain colons.
    """
    kwargs: dict[str, dict[str, Any]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        export_format, key, value = (*entry.split(":", 2), "", "")[:3]
        if not (export_format and key and value):
            raise typer.BadParameter(
                f"{entry!r} is not of the form FORMAT:KEY:VALUE, such as glb:camera_size:0.1",
                param_hint="--export-kwargs",
            )
        kwargs.setdefault(export_format.strip(), {})[key.strip()] = _parse_value(value.strip())
    return kwargs


def _parse_value(text: str) -> bool | int | float | str | None:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
