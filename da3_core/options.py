# SPDX-License-Identifier: Apache-2.0
"""What can be chosen, each choice declared once: a field with its type, default, limits and one sentence.

The command line, the HTTP requests, the parameters of the node and the tables of the documentation are derived from
these dataclasses and from those of `bag.options` and of the export formats, each in its own spelling. Nothing heavy is
imported, so that a help page may show the defaults without loading a network.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from da3_core.errors import InputError, OptionError
from da3_core.network.config import PATCH_SIZE as PATCH_SIZE
from da3_core.network.config import RefViewStrategy as RefViewStrategy

# Who offers an option: the commands from images to results, `da3 bag`, `da3 intrinsics`, requests over HTTP, parameters
# of the node, and its requests `~/process_bag`.
Face = Literal["command", "bag", "intrinsics", "http", "node", "bag_request"]
ALL_FACES: tuple[Face, ...] = get_args(Face)

PoseMethod = Literal["auto", "decoder", "rays", "features"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["auto", "torch", "openvino", "onnxruntime", "onnxruntime:cuda", "onnxruntime:tensorrt"]
DepthSize = Literal["processed", "input"]
ProcessResMethod = Literal["upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop"]
RefineDepth = Literal["auto", "yes", "no"]
WeightsLicence = Literal["any", "permissive"]
IsRectified = Literal["auto", "yes", "no"]
LiveScale = Literal["auto", "poses", "model", "depth_topic", "camera_height", "fixed", "none"]
MapUp = Literal["camera", "imu", "tf", "floor"]

DEFAULT_MODEL = "auto"  # of the library, every command, the services and the node; `weights.resolve` decides what it is
PROCESS_RES = 504  # pixels; what the released models are used at, see `Preset.process_res`

# Of the pixels that have a depth and are not sky, so many are left out of every cloud, the least confident; percent.
LEAST_CONFIDENT = 40.0

# The one default of each face.
EXPORT_FORMATS = {
    "library": "mini_npz",  # the official API's
    "command": "glb",  # a viewer opens it
    "bag": "glb",  # as of the commands, where `--export-dir` asks for an export at all
    "http": "mini_npz-glb",  # numbers for the program that asked, and a scene for the gallery
}


@dataclass(frozen=True)
class Option:
    """A declared field, as the faces read it.

    Attributes:
        name: of the field.
        kind: bool, int, float or str; None for what is none of them, such as an array.
        choices: of a text, if not every one is allowed.
        is_optional: None is allowed, and `unset` says what it stands for.
        low, high: limits of a number, both allowed.
        sentence: what it means.
        dynamic: whether it may change while a stream runs.
        faces: who offers it.
    """

    name: str
    kind: type | None
    choices: tuple[str, ...]
    is_optional: bool
    default: Any
    sentence: str
    low: float
    high: float
    unset: str
    dynamic: bool
    faces: tuple[Face, ...]

    def allows(self, value: object) -> bool:
        """Whether a value has the type and is within the limits. Whole numbers serve as floats, NumPy's as Python's."""
        if value is None:
            return self.is_optional
        if self.kind is None:
            return True
        if self.kind is str:
            return isinstance(value, str) and (value in self.choices if self.choices else value != "")
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        accepted = numbers.Integral if self.kind is int else numbers.Real
        return isinstance(value, accepted) and math.isfinite(value) and self.low <= float(value) <= self.high

    @property
    def limits(self) -> str:
        """The allowed values in words, but for None."""
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one of " + ", ".join(self.choices) if self.choices else "any text, not empty"
        if self.kind is None:
            return "an array"
        words = "a whole number" if self.kind is int else "a number"
        low, high = f"{self.low:.7g}", f"{self.high:.7g}"
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{words} from {low} to {high}"
        if math.isfinite(self.low):
            return f"{words} of at least {low}"
        return f"{words} of at most {high}" if math.isfinite(self.high) else words


def option(
    default: Any,
    sentence: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    unset: str = "",
    dynamic: bool = False,
    faces: tuple[Face, ...] = ALL_FACES,
) -> Any:
    """A field of a frozen dataclass that is an option; what is left to say is described in `Option`.

    Choices are those of the field's type, a `Literal`.
    """
    said = {"sentence": sentence, "low": low, "high": high, "unset": unset, "dynamic": dynamic, "faces": faces}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=said)
    return field(default=default, metadata=said)


def same_option(owner: type, name: str, **changes: Any) -> Any:
    """A field that is the same option as one of another dataclass, whatever its name here, offered where it stands.

    Args:
        changes: what is said otherwise, as of `option`.
    """
    [origin] = [each for each in dataclasses.fields(owner) if each.name == name]
    default = origin.default if origin.default_factory is dataclasses.MISSING else origin.default_factory()
    return option(**{"default": default, **origin.metadata, "faces": ALL_FACES, **changes})


def declared(owner: Any) -> dict[str, Option]:
    """The options of a dataclass by name; fields that are none are left out."""
    return _declared(owner)


@cache
def _declared(owner: Any) -> dict[str, Option]:
    hints = get_type_hints(owner)
    options = {}
    for each in dataclasses.fields(owner):
        if "sentence" in each.metadata:
            kind, choices, is_optional = _read_type(hints[each.name])
            default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
            options[each.name] = Option(each.name, kind, choices, is_optional, default, **each.metadata)
    return options


def _read_type(hint: Any) -> tuple[type | None, tuple[str, ...], bool]:
    """Kind, choices, and whether None is allowed."""
    if get_origin(hint) in (Union, UnionType):
        inner = [each for each in get_args(hint) if each is not type(None)]
        kind, choices, _ = _read_type(inner[0])
        return kind, choices, True
    if get_origin(hint) is Literal:
        return str, get_args(hint), False
    return (hint, (), False) if hint in (bool, int, float, str) else (None, (), hint is Any)


def check_options(owner: type, values: Mapping[str, Any]) -> None:
    """Refuse values that an option of `owner` does not allow.

    Raises:
        InputError: the first of them, and what is allowed.
    """
    for name, each in declared(owner).items():
        if name in values and not each.allows(values[name]):
            sentence = f"{{{name}}} is {{given!r}}; give {{limits}}"
            raise OptionError(sentence, given=values[name], limits=each.limits)


class Checked:
    """A dataclass whose instances hold allowed values only."""

    def __post_init__(self) -> None:
        """Raises InputError."""
        check_options(type(self), vars(self))


@dataclass(frozen=True)
class ModelOptions(Checked):
    """Which network, and where it runs; see `DepthAnything3.from_pretrained`."""

    model: str = option(
        DEFAULT_MODEL,
        "Hub id, local folder, model name such as da3-small, embedded (needs no hub; soft, relative depth), "
        "untrained:NAME, or auto: DA3-BASE where it is cached or the hub answers, else embedded.",
    )
    weights_licence: WeightsLicence = option("any", "permissive: refuse weights whose licence forbids commercial use.")
    device: str = option("auto", "A torch device (cpu, cuda, cuda:1, mps), or auto: CUDA, else MPS, else CPU.")
    precision: Precision = option(
        "auto",
        "Arithmetic of the backbone; auto: bfloat16 where the hardware is measured to be faster by it, else float32.",
    )
    engine: Engine = option(
        "auto",
        "What executes the network; the first images of each size wait until openvino (on CPUs, twice as fast) or "
        "onnxruntime has converted it; auto: openvino on CPUs where it is installed, once that pays, else torch.",
    )


@dataclass(frozen=True)
class InferenceOptions(Checked):
    """What a model makes of images of one scene; see `DepthAnything3.inference`."""

    process_res: int | None = option(
        None,
        "Length in pixels that the longer or shorter side of images is resized to.",
        low=PATCH_SIZE,
        high=8192,
        unset="the model's, 504, of embedded 224",
    )
    process_res_method: ProcessResMethod = option(
        "upper_bound_resize",
        "upper: the longer side is resized to that length; lower: the shorter side; resize or crop: how sides become "
        "multiples of 14 then.",
    )
    use_ray_pose: bool = option(
        False, "The same as the pose method rays.", faces=("command", "bag", "intrinsics", "http")
    )
    pose_method: PoseMethod = option(
        "auto",
        "Where cameras come from. decoder: the network; rays: its ray head, principal point included, slower; "
        "features: matches between the images and depth; auto: the decoder of models that have one, else features.",
    )
    refine_scale: bool = option(
        False,
        "Let the depth of every view of a metric model take the scale at which features match those of the others, "
        "where poses are found by features; else it is what the focal length makes of it, view by view.",
        faces=("command", "bag", "http"),
    )
    refine_depth: RefineDepth = option(
        "auto",
        "Correct the depth of every view, smoothly, by what matches triangulate, where poses are found by features; "
        "auto: of the embedded model.",
    )
    ref_view_strategy: RefViewStrategy = option(
        "saddle_balanced",
        "How the view that others refer to is chosen, from 3 views on.",
        faces=("command", "bag", "http", "node"),
    )
    apply_exif: bool = option(
        False,
        "Turn images upright by their EXIF tag; intrinsics, given and written, are then those of the upright images.",
        faces=("command", "intrinsics", "http"),
    )
    align_to_input_ext_scale: bool = option(
        True, "Put the results into the frame and unit of the given cameras.", faces=("http",)
    )
    infer_gs: bool | None = option(
        None,
        "Predict 3-D Gaussians (giant and nested models).",
        unset="on for gs formats",
        faces=("command", "http"),
    )
    export_feat_layers: tuple[int, ...] = option(
        (), "Backbone blocks whose features are exported, such as 0,5,11.", faces=("command", "http")
    )

    @property
    def wants_gaussians(self) -> bool:
        return bool(self.infer_gs)


@dataclass(frozen=True, eq=False)
class SceneOptions(InferenceOptions):
    """What is computed for a scene and written of it. None stands for the default of each format."""

    max_views_per_window: int | None = option(
        None,
        "Process more views than this in overlapping windows and join them.",
        low=2,
        unset="what fits into the free memory",
    )
    depth_size: DepthSize = option(
        "processed",
        "input: depth and intrinsics at the size of the images as given, with edges where the image has them; all must "
        "be of one size.",
        faces=("command", "http"),
    )
    export_format: str = option(EXPORT_FORMATS["command"], "Formats joined by hyphens, such as mini_npz-glb-depth_vis.")
    export_kwargs: Mapping[str, Mapping[str, Any]] = option({}, "Options of formats, by format.")
    conf_thresh_percentile: float | None = option(
        None,
        "Points less confident than this percentile are left out of clouds.",
        low=0,
        high=100,
        unset="the format's",
    )
    num_max_points: int | None = option(None, "Most points of a GLB or PLY.", low=0, unset="the format's")
    show_cameras: bool | None = option(None, "Draw the cameras into a GLB.", unset="the format's")
    feat_vis_fps: int | None = option(
        None, "Frames per second of feature videos.", low=1, high=1000, unset="the format's"
    )
    render_exts: Any = option(
        None,
        "World-to-camera matrices of the frames of a gs_video, (M, 4, 4).",
        unset="a path by the cameras",
        faces=("http",),
    )
    render_ixts: Any = option(
        None, "Intrinsics of these frames, (M, 3, 3).", unset="those of the views", faces=("http",)
    )
    render_hw: tuple[int, int] | None = option(
        None, "Height and width of these frames.", unset="those of the views", faces=("http",)
    )

    @property
    def wants_gaussians(self) -> bool:
        if self.infer_gs is None:
            return any(name.startswith("gs_") for name in self.export_format.split("-"))
        return self.infer_gs

    def export_options(self) -> dict[str, Any]:
        """Keyword arguments of `export.export`."""
        names = ("export_kwargs", "conf_thresh_percentile", "num_max_points", "show_cameras", "feat_vis_fps")
        return {name: getattr(self, name) for name in (*names, "render_exts", "render_ixts", "render_hw")}


_CAMERA_FACES: tuple[Face, ...] = ("command", "bag", "intrinsics")


@dataclass(frozen=True)
class CameraOptions(Checked):
    """Intrinsics that somebody knows, in one of these ways; see `sources.given_camera`."""

    intrinsics_file: str | None = option(
        None,
        "The camera: a K.txt as `da3 intrinsics` writes it, or a camera_info YAML of ROS.",
        unset="not known",
        faces=_CAMERA_FACES,
    )
    focal_px: float | None = option(
        None,
        "Focal length in pixels of the images as given.",
        low=1,
        high=1e6,
        unset="not known",
        faces=(*_CAMERA_FACES, "http"),
    )
    hfov_deg: float | None = option(
        None,
        "Angle of view over the width of the images; degrees.",
        low=1,
        high=179,
        unset="not known",
        faces=(*_CAMERA_FACES, "http"),
    )
    focal_from_exif: bool = option(
        False, "Take the focal length from the EXIF tags of photographs.", faces=("command", "intrinsics", "http")
    )

    def __post_init__(self) -> None:
        """Raises InputError, for two ways at once too."""
        super().__post_init__()
        if len(self._given) > 1:
            raise OptionError(
                "{intrinsics_file}, {focal_px}, {hfov_deg} and {focal_from_exif} all tell the camera: give one of them"
            )

    @property
    def is_given(self) -> bool:
        return bool(self._given)

    @property
    def _given(self) -> tuple[str, ...]:
        return tuple(name for name in declared(CameraOptions) if getattr(self, name) not in (None, False))


@dataclass(frozen=True)
class RectifyOptions(Checked):
    """How images of lenses with distortion become those of a pinhole camera."""

    alpha: float = option(
        0.0,
        "How much of the field of view rectified images keep where nothing else says: 0 only pixels that show "
        "something, 1 all, black beyond it.",
        low=0,
        high=1,
    )


HIGHEST_M = 1000.0  # beyond what any robot tells apart


@dataclass(frozen=True)
class CropOptions(Checked):
    """Which part of the robot's surroundings becomes points."""

    min_height_m: float = option(
        -HIGHEST_M,
        "Leave out points that are lower in base_frame; metres.",
        low=-HIGHEST_M,
        high=HIGHEST_M,
        dynamic=True,
    )
    max_height_m: float = option(
        HIGHEST_M,
        "Leave out points that are higher in base_frame; metres.",
        low=-HIGHEST_M,
        high=HIGHEST_M,
        dynamic=True,
    )
    max_range_m: float = option(
        0.0,
        "Leave out points that are farther from base_frame, measured on the ground; metres, 0 is no limit.",
        low=0,
        high=1e9,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        """Raises InputError, for limits that leave nothing too."""
        super().__post_init__()
        _check_heights("crop", self.min_height_m, self.max_height_m)

    @property
    def is_active(self) -> bool:
        """Whether anything is left out."""
        return self != CropOptions()


@dataclass(frozen=True)
class ScanOptions(Checked):
    """The laser scan that is made of depth."""

    min_height_m: float = option(
        0.1, "Lowest obstacle in base_frame; metres.", low=-HIGHEST_M, high=HIGHEST_M, dynamic=True
    )
    max_height_m: float = option(
        1.0, "Highest obstacle in base_frame; metres.", low=-HIGHEST_M, high=HIGHEST_M, dynamic=True
    )
    min_range_m: float = option(0.1, "Nearest obstacle, from base_frame; metres.", low=0.0, high=1e6, dynamic=True)
    max_range_m: float = option(
        10.0,
        "Farthest obstacle, from base_frame; what is seen to be free that far is +Inf; metres.",
        low=0.01,
        high=1e6,
        dynamic=True,
    )
    angle_increment_deg: float = option(
        0.0,
        "Angle from one bearing to the next; degrees, 0 is that of a pixel in the middle of the image.",
        low=0.0,
        high=90.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        """Raises InputError, for limits that leave nothing too."""
        super().__post_init__()
        _check_heights("scan", self.min_height_m, self.max_height_m)
        if self.max_range_m <= self.min_range_m:
            raise InputError(
                f"scan.max_range_m is {self.max_range_m:g} and scan.min_range_m {self.min_range_m:g}: the farthest "
                "obstacle must be farther than the nearest"
            )


@dataclass(frozen=True)
class MapPointsOptions(Checked):
    """The cloud of voxels that a map becomes."""

    voxel_m: float = option(0.05, "Edge of a voxel; metres, or the map's unit.", low=1e-4, high=1e4)
    max_voxels: int = option(
        300_000,
        "Most voxels, of 60 bytes each in memory; beyond, those that the fewest views saw go.",
        low=100,
        high=20_000_000,
    )
    rate_hz: float = option(
        1.0,
        "Views of a camera that are taken in, and clouds that are published, in a second; 0 is none.",
        low=0.0,
        high=100.0,
    )
    always: bool = option(
        False, "Take in views while nobody listens, too, so that who comes late has all; false from the first on."
    )


def _check_heights(group: str, lowest_m: float, highest_m: float) -> None:
    if highest_m <= lowest_m:
        raise InputError(
            f"{group}.max_height_m is {highest_m:g} and {group}.min_height_m {lowest_m:g}: the highest must be above "
            "the lowest"
        )


@dataclass(frozen=True)
class PointOptions(Checked):
    """Which pixels become the points of a cloud, live and from a bag."""

    stride: int = option(1, "Take every n-th row and column.", low=1, high=1000, dynamic=True)
    min_depth_m: float = option(0.0, "Leave out nearer points; metres.", low=0, high=1e9, dynamic=True)
    max_depth_m: float = option(0.0, "Leave out farther points; metres, 0 is no limit.", low=0, high=1e9, dynamic=True)
    confidence_percentile: float = option(
        LEAST_CONFIDENT,
        "Leave out this share of each image's valid pixels, the least confident; percent.",
        low=0,
        high=99,
        dynamic=True,
    )
    edge_threshold: float = option(
        0.05,
        "Leave out pixels whose depth jumps to a neighbour by more than this share: they float between surfaces; "
        "0 keeps them.",
        low=0,
        high=1e9,
        dynamic=True,
    )
    organized: bool = option(
        False, "Keep rows and columns and put NaN where there is no point, instead of a packed list.", dynamic=True
    )
    color: bool = option(True, "Give every point the colour of its pixel.", dynamic=True)

    def __post_init__(self) -> None:
        """Raises InputError, for limits that leave nothing too."""
        super().__post_init__()
        if 0 < self.max_depth_m <= self.min_depth_m:
            raise InputError(
                f"points are kept from {self.min_depth_m:g} m to {self.max_depth_m:g} m: the nearest must be less than "
                "the farthest, or the farthest 0"
            )
