# SPDX-License-Identifier: Apache-2.0
"""The one table of the node's parameters: every name, type, default, limit and sentence is here and nowhere else.

The fields of `Settings` are the parameters, its instances are what the node works with. What is made of the table
(declarations, checks, YAML file, launch arguments, reference) is in `parameters`.
"""
# ruff: noqa: RUF009  (parameter() makes dataclass fields)

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from da3_core.options import (
    DEFAULT_MODEL,
    InferenceOptions,
    PoseMethod,
    Precision,
    ProcessResMethod,
    RefViewStrategy,
    WeightsLicence,
)

Value = bool | int | float | str


def parameter(
    default: Value, description: str, *, low: float = -math.inf, high: float = math.inf, dynamic=False
) -> Any:
    """A field that is a parameter. `dynamic`: it may change while the node is configured; others need a configure."""
    return field(default=default, metadata={"description": description, "low": low, "high": high, "dynamic": dynamic})


@dataclass(frozen=True)
class Window:
    """Which images are inferred together."""

    size: int = parameter(4, "Views inferred together; 1 is monocular depth, the fastest.", low=1, high=64)
    stride: int = parameter(
        1,
        "New views per inference; less than window.size, so that windows share views to be joined by.",
        low=1,
        high=64,
    )
    max_gap_s: float = parameter(
        2.0, "A longer gap between stamps, or time going backwards, starts a new map; seconds.", low=0.0
    )
    keyframe_min_motion: float = parameter(
        0.0,
        "Mean difference of thumbnails, of 255, below which an image is not a new view; 0 takes every image.",
        low=0.0,
        high=255.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class Queue:
    """What waits for inference with every_frame."""

    max_frames: int = parameter(100, "Images that may wait with every_frame; more are refused.", low=1, high=100_000)


@dataclass(frozen=True)
class Intrinsics:
    """Where the camera matrix comes from."""

    source: Literal["auto", "camera_info", "model"] = parameter(
        "auto",
        "auto: CameraInfo where it is calibrated, else the model's estimate; camera_info: wait for it; "
        "model: always the estimate.",
    )


@dataclass(frozen=True)
class Scale:
    """Where metres come from."""

    source: Literal["auto", "model", "fixed", "none"] = parameter(
        "auto",
        "auto and model: metres where the model predicts them; fixed: scale.fixed_m_per_unit; none: the model's unit.",
    )
    fixed_m_per_unit: float = parameter(
        1.0, "Metres per unit of the model's depth, for scale.source fixed.", low=1e-6, high=1e6
    )


@dataclass(frozen=True)
class Depth:
    """What the depth images hold."""

    confidence_floor: float = parameter(
        0.0,
        "Pixels of lower confidence (it is at least 1) become NaN in depth images; 0 keeps all.",
        low=0.0,
        dynamic=True,
    )


@dataclass(frozen=True)
class Points:
    """Which pixels become points, and how."""

    stride: int = parameter(1, "Take every n-th row and column.", low=1, high=1000, dynamic=True)
    min_depth_m: float = parameter(0.0, "Leave out nearer points; metres.", low=0.0, dynamic=True)
    max_depth_m: float = parameter(0.0, "Leave out farther points; metres, 0 is no limit.", low=0.0, dynamic=True)
    confidence_percentile: float = parameter(
        20.0,
        "Leave out this share of each image's valid pixels, the least confident; percent.",
        low=0.0,
        high=99.0,
        dynamic=True,
    )
    edge_threshold: float = parameter(
        0.05,
        "Leave out pixels whose depth jumps to a neighbour by more than this share: they float between surfaces; "
        "0 keeps them.",
        low=0.0,
        dynamic=True,
    )
    organized: bool = parameter(
        False, "Keep rows and columns and put NaN where there is no point, instead of a packed list.", dynamic=True
    )
    color: bool = parameter(True, "Give every point the colour of its pixel.", dynamic=True)


@dataclass(frozen=True)
class Tf:
    """What the node publishes on /tf."""

    mode: Literal["camera", "none"] = parameter(
        "camera", "camera: map_frame to the camera, or to the root of the tree that the camera is in; none: nothing."
    )
    max_extrapolation_s: float = parameter(
        0.1, "How far the stamp of an image may lie outside the known transforms of its tree; seconds.", low=0.0
    )


@dataclass(frozen=True)
class Path:
    """The published trajectory."""

    max_poses: int = parameter(1000, "Newest poses that the path keeps.", low=1, high=1_000_000, dynamic=True)


@dataclass(frozen=True)
class Export:
    """What requests may have written, and where."""

    root: str = parameter(
        "~/da3_exports",
        "Folder below which ~/export and ~/process_bag write, nowhere else; ~ is the home folder of the node's user.",
    )
    max_views: int = parameter(
        100, "Views of a map that are remembered for an export, spread evenly over time.", low=1, high=10_000
    )


@dataclass(frozen=True)
class Bag:
    """Where the recordings are that requests may have processed."""

    root: str = parameter(
        "~/da3_bags", "Folder below which ~/process_bag reads recordings, and nowhere else; ~ is as in export.root."
    )


@dataclass(frozen=True)
class Qos:
    """Quality of service of what is published."""

    depth: int = parameter(10, "Messages that publishers keep for slow subscribers.", low=1, high=10_000)


@dataclass(frozen=True)
class Settings:
    """All parameters. `Settings()` has their defaults."""

    model: str = parameter(
        DEFAULT_MODEL,
        "The name of a preset such as da3-small, a Hugging Face id, a folder, embedded (needs no hub; soft, relative "
        "depth), untrained:<preset>, or auto: DA3-BASE where it is cached or the hub answers, else embedded.",
    )
    weights_licence: WeightsLicence = parameter("any", "permissive refuses weights that forbid commercial use.")
    device: str = parameter("auto", "auto, cpu, cuda, or one GPU such as cuda:0.")
    precision: Precision = parameter("auto", "Arithmetic of the network; auto asks the hardware.")
    process_res: int = parameter(
        0,
        "Side that images are resized to for the network, at least 14 pixels; 0: the model's, 504, of embedded 224.",
        low=0,
        high=8192,
    )
    process_res_method: ProcessResMethod = parameter(
        InferenceOptions.process_res_method,
        "Whether process_res is the longer (upper) or the shorter (lower) side, and whether the rest is cropped.",
    )
    pose_method: PoseMethod = parameter(
        InferenceOptions.pose_method,
        "Where poses come from. decoder and rays: the network; features: matches between the images and depth; "
        "auto: the decoder of models that have one, else features.",
    )
    ref_view_strategy: RefViewStrategy = parameter(
        InferenceOptions.ref_view_strategy, "How the view is chosen that the network refers the others to."
    )
    image_transport: Literal["raw", "compressed"] = parameter(
        "raw", "Subscribe image as sensor_msgs/Image, or image/compressed as jpeg and png."
    )
    mode: Literal["stream", "on_demand"] = parameter(
        "stream", "stream: infer as images arrive; on_demand: only when ~/infer is called.", dynamic=True
    )
    every_frame: bool = parameter(
        False, "Use every image in order and fall behind rather than skip, for playback; false takes the newest."
    )
    max_rate_hz: float = parameter(0.0, "Most inferences per second; 0 is as many as possible.", low=0.0, dynamic=True)
    map_frame: str = parameter("da3_map", "Name of the frame that poses, path and transforms are given in.")
    autostart: bool = parameter(True, "Configure and activate at start, without a lifecycle manager.")
    watchdog_s: float = parameter(
        5.0,
        "Without an image for so long, diagnostics warn and say what is waited for; seconds.",
        low=0.1,
        dynamic=True,
    )
    max_consecutive_failures: int = parameter(
        5, "Failed inferences in a row after which the node deactivates itself.", low=1, high=1_000_000, dynamic=True
    )
    window: Window = field(default_factory=Window)
    queue: Queue = field(default_factory=Queue)
    intrinsics: Intrinsics = field(default_factory=Intrinsics)
    scale: Scale = field(default_factory=Scale)
    depth: Depth = field(default_factory=Depth)
    points: Points = field(default_factory=Points)
    tf: Tf = field(default_factory=Tf)
    path: Path = field(default_factory=Path)
    export: Export = field(default_factory=Export)
    bag: Bag = field(default_factory=Bag)
    qos: Qos = field(default_factory=Qos)
