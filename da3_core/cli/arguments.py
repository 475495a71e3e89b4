# SPDX-License-Identifier: Apache-2.0
"""The options of commands: those of the library by their declarations, and what only a command line has.

A command takes a whole dataclass of options as one parameter; `flatten_arguments` spreads its fields out for typer.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from da3_core.bag.options import BagOptions, Storage
from da3_core.cli.failures import failures_reported
from da3_core.cli.spelling import SPELLINGS, without_unit
from da3_core.cluster.options import ClusterOptions
from da3_core.errors import OptionError
from da3_core.options import (
    DEFAULT_MODEL,
    EXPORT_FORMATS,
    CameraOptions,
    Face,
    InferenceOptions,
    ModelOptions,
    Option,
    PointOptions,
    RectifyOptions,
    SceneOptions,
    declared,
    option,
    same_option,
)
from da3_core.sources.video import FrameFormat, Sampling

Result = TypeVar("Result")

BACKEND_TOKEN = "DA3_BACKEND_TOKEN"

Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Keep finished windows beside the output until it is whole, and go on from those that a run which was "
        "ended left there.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of text.")]


@dataclass(frozen=True)
class ServedModelOptions(ModelOptions):
    """Which network a service lends, where it runs, and how long it stays."""

    unload_after: float | None = option(
        None, "Seconds without use after which the model is unloaded.", low=0, unset="never"
    )


@dataclass(frozen=True)
class OutputArguments:
    """Where results go, and what is told of them."""

    export_dir: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("workspace/gallery/scene")
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
    json: Json = False
    resume: Resume = False
    debug: Debug = False


@dataclass(frozen=True)
class BagOutputArguments:
    """What `da3 bag` writes, and where."""

    output_bag: Annotated[
        Path | None, typer.Option(help="Folder of the new bag.", show_default="INPUT_da3 in the current folder")
    ] = None
    storage: Annotated[Storage, typer.Option(help="Format of the new bag.")] = "mcap"
    export_dir: Annotated[
        Path | None, typer.Option(help="Also export up to 200 views of the longest map here.", show_default="no")
    ] = None
    export_format: str = same_option(SceneOptions, "export_format", default=EXPORT_FORMATS["bag"])
    export_kwargs: Mapping[str, Mapping[str, Any]] = same_option(SceneOptions, "export_kwargs")
    conf_thresh_percentile: float | None = same_option(SceneOptions, "conf_thresh_percentile")
    num_max_points: int | None = same_option(SceneOptions, "num_max_points")
    show_cameras: bool | None = same_option(SceneOptions, "show_cameras")
    points: Annotated[bool, typer.Option("--points", help="Write clouds to /da3/points.")] = False
    json: Json = False
    resume: Resume = False
    debug: Debug = False

    def export_options(self) -> dict[str, Any]:
        """Keyword arguments of `export.export`."""
        names = ("export_kwargs", "conf_thresh_percentile", "num_max_points", "show_cameras")
        return {name: getattr(self, name) for name in names}

    def check(self, points: PointOptions) -> None:
        """Raises OptionError for choices about what is not written."""
        defaults = BagOutputArguments()
        if not self.export_dir:
            for name in ("export_format", *self.export_options()):
                if getattr(self, name) != getattr(defaults, name):
                    raise OptionError(f"{{{name}}} came without {{export_dir}}: give a folder, or leave it out")
        if not self.points and points != PointOptions():
            raise OptionError("options of points came without {points}: add it, or leave them out")


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
    align_to_input_ext_scale: bool = same_option(
        InferenceOptions,
        "align_to_input_ext_scale",
        sentence="Put the results into the frame and unit of the reconstruction.",
    )
    undistort: Annotated[bool, typer.Option(help="Rectify images of cameras with lens distortion.")] = True
    rectify_alpha: float = same_option(RectifyOptions, "alpha")


def flatten_arguments(face: Face, **prefixes: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Spread each dataclass parameter of a command over its fields, so that typer sees one option per field.

    Args:
        face: fields that are options are taken if this face offers them; others keep their defaults.
        prefixes: of the options of a parameter, such as `points_`.
    """

    def flatten(command: Callable[..., Result]) -> Callable[..., Result]:
        parameters = inspect.signature(command).parameters.values()
        groups = {
            each.name: _arguments_of(each.annotation, face, prefixes.get(each.name, ""))
            for each in parameters
            if is_dataclass(each.annotation)
        }

        @functools.wraps(command)
        def flat(**values: Any) -> Result:
            with failures_reported(values.get("debug", False)):
                chosen = {
                    group: {field: values.pop(argument.name) for field, argument in arguments.items()}
                    for group, arguments in groups.items()
                }
                for group, given in chosen.items():
                    values[group] = _made(command.__annotations__[group], given)
            return command(**values)

        flat_parameters = [
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters if each.name not in groups),
            *(argument for arguments in groups.values() for argument in arguments.values()),
        ]
        flat.__signature__ = inspect.Signature(flat_parameters)  # type: ignore[attr-defined]
        flat.__annotations__ = {each.name: each.annotation for each in flat_parameters}
        return flat

    return flatten


def _made(group: Any, given: dict[str, Any]) -> Any:
    """A dataclass of what typer parsed: None for what was not given, and lists."""
    options = declared(group)
    lists = {name: tuple(value) for name, value in given.items() if name in options and isinstance(value, list)}
    return group(**{name: value for name, value in (given | lists).items() if value is not None})


def _heading(group: Any, field: str) -> str | None:
    """What the option stands under on a help page."""
    if issubclass(group, InferenceOptions):
        return "Inference" if field in (*declared(InferenceOptions), "max_views_per_window") else "Export"
    return next((heading for kind, heading in HEADINGS.items() if issubclass(group, kind)), None)


def _arguments_of(group: Any, face: Face, prefix: str) -> dict[str, inspect.Parameter]:
    """The parameters that typer sees for the fields of a group."""
    options, hints = declared(group), get_type_hints(group, include_extras=True)
    face = "bag" if group is BagOptions else face  # wherever bags are among the inputs
    arguments = {}
    for each in fields(group):
        if each.name not in options:
            if get_origin(hints[each.name]) is Annotated:
                kind, info = get_args(hints[each.name])
                info = copy(info)
                info.rich_help_panel = _heading(group, each.name)
                arguments[each.name] = _argument(each.name, Annotated[kind, info], each.default)
        elif face in options[each.name].faces:
            heading = _heading(group, each.name)
            arguments[each.name] = _derived(options[each.name], hints[each.name], prefix, heading)
    return arguments


def _derived(each: Option, hint: Any, prefix: str, heading: str | None) -> inspect.Parameter:
    """The parameter of an option; units that end a field's name are left out of its spelling."""
    parser = PARSERS.get(each.name)
    if each.kind is None:
        hint = str | None if parser else list[str] | None
    info = typer.Option(
        *SPELLINGS.get(each.name, ()),
        help=each.sentence,
        show_default=each.unset or True,
        parser=parser,
        autocompletion=COMPLETIONS.get(each.name),
        rich_help_panel=heading,
        min=each.low if isfinite(each.low) else None,
        max=each.high if isfinite(each.high) else None,
    )
    default = None if each.kind is None else each.default
    return _argument(prefix + without_unit(each.name), Annotated[hint, info], default)


def _argument(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parse_layers(text: str) -> tuple[int, ...]:
    """`"0, 5,11"` -> `(0, 5, 11)`; an empty text -> `()`."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of block numbers: write them as 0,5,11") from None


def parse_export_kwargs(text: str) -> dict[str, dict[str, Any]]:
    """`"glb:camera_size:0.1,colmap:text:true"` -> `{"glb": {"camera_size": 0.1}, "colmap": {"text": True}}`.

    A value is `true`, `false`, `none`, an integer, a float or else a string, which may contain colons.
    """
    kwargs: dict[str, dict[str, Any]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        export_format, key, value = (*entry.split(":", 2), "", "")[:3]
        if not (export_format and key and value):
            raise typer.BadParameter(f"{entry!r} is not of the form FORMAT:KEY:VALUE, such as glb:camera_size:0.1")
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


PARSERS: dict[str, Callable[[str], Any]] = {"export_feat_layers": parse_layers, "export_kwargs": parse_export_kwargs}


def complete_model(incomplete: str) -> list[str]:
    """Names of models that begin so."""
    from da3_core.model.presets import PRESETS

    return [name for name in (DEFAULT_MODEL, "embedded", *PRESETS) if name.startswith(incomplete)]


def complete_formats(incomplete: str) -> list[str]:
    """A hyphenated list with its last name completed in every way."""
    from da3_core.export import EXPORTERS

    done, hyphen, last = incomplete.rpartition("-")
    chosen = done.split("-")
    return [done + hyphen + name for name in EXPORTERS if name.startswith(last) and name not in chosen]


COMPLETIONS: dict[str, Callable[[str], list[str]]] = {"model": complete_model, "export_format": complete_formats}

# Of the options of a dataclass on a help page; those of inference and export have their own.
HEADINGS: dict[type, str] = {
    ModelOptions: "Model",
    CameraOptions: "Camera",
    BagOptions: "Bag",
    PointOptions: "Points",
    OutputArguments: "Results",
    BagOutputArguments: "Results",
    BackendArguments: "Backend",
    VideoArguments: "Video",
    ColmapArguments: "COLMAP",
    ClusterOptions: "Workers",
}
