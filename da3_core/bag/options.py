# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about the processing of a bag, with the defaults; it imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

Storage = Literal["mcap", "sqlite3"]
IntrinsicsSource = Literal["auto", "camera_info", "model"]
ScaleChoice = Literal["auto", "model", "none"]


@dataclass(frozen=True)
class PointOptions:
    """Which pixels become points; as the parameters `points.*` of the live node, with the same defaults."""

    stride: int = 1
    min_depth_m: float = 0.0
    max_depth_m: float = 0.0
    confidence_percentile: float = 20.0
    edge_threshold: float = 0.05
    organized: bool = False
    color: bool = True


@dataclass(frozen=True)
class BagOptions:
    """Choices of `process_bag`; those that the live node has too mean the same there and have the same defaults.

    Attributes:
        image_topic, camera_info_topic: None for the one that is found.
        start_s, duration_s: the part of the bag, in seconds from its first message; None is to its end.
        every: take every n-th image.
        fps: take so many images per second of their stamps; None for all.
        window, stride: views inferred together, and how many of them are new.
        max_gap_s: a longer gap between stamps starts a new map.
        intrinsics: `auto` takes CameraInfo where it is calibrated, else the model's estimate; `camera_info` refuses
            images without; `model` is always the estimate.
        scale: `auto` and `model` give metres where the model predicts them, `none` the model's unit.
        metres_per_unit: given, it goes before `scale`.
        confidence_floor: less confident depth becomes NaN.
        map_frame: the frame of poses and transforms.
        max_extrapolation_s: how far a stamp may lie outside the known transforms.
        path_poses: newest poses that the path keeps.
        points: given, clouds are written, of these pixels.
        window_messages: whether `window` is written, the largest topic by far.
        copy_topics: `all`, `none`, or a regular expression of the topics that are written with the results.
    """

    image_topic: str | None = None
    camera_info_topic: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1
    fps: float | None = None
    window: int = 4
    stride: int = 1
    max_gap_s: float = 2.0
    intrinsics: IntrinsicsSource = "auto"
    scale: ScaleChoice = "auto"
    metres_per_unit: float | None = None
    confidence_floor: float = 0.0
    map_frame: str = "da3_map"
    max_extrapolation_s: float = 0.1
    path_poses: int = 1000
    points: PointOptions | None = None
    window_messages: bool = True
    copy_topics: str = "none"
