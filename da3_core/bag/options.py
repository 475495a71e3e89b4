# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about the processing of a bag, with the defaults; it imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

from da3_core.errors import InputError, OptionError

Storage = Literal["mcap", "sqlite3"]
IntrinsicsSource = Literal["auto", "camera_info", "model"]
ScaleChoice = Literal["auto", "poses", "model", "none"]
PoseSource = Literal["auto", "none", "tf", "rig"]


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
        image_topics: several are a rig, whose images of one instant are inferred together; none for the one with
            pictures.
        camera_info_topics: one for each image topic, in their order; none for those beside the images.
        sync_slop_s: how far the stamps of a rig's images of one instant may be apart.
        start_s, duration_s: the part of the bag, in seconds from its first message; None is to its end.
        every: take every n-th image.
        fps: take so many images per second of their stamps; None for all.
        window, stride: views inferred together, and how many of them are new; of a rig, instants.
        max_gap_s: a longer gap between stamps starts a new map.
        intrinsics: `auto` takes CameraInfo where it is calibrated, else the model's estimate; `camera_info` refuses
            images without; `model` is always the estimate.
        pose_source: `tf` takes the pose of every camera in `odom_frame` from the transforms of the bag, `rig` what
            /tf_static says about the cameras of a rig among each other, `auto` the latter where it says it. The model
            is shown them where it can see them, depth takes their metres, and the poses of the results are the given
            ones. Images without a pose are used without.
        odom_frame: where `tf` takes poses from; `map_frame` then lies in the same place.
        pose_required: leave out images without a pose.
        tf_timeout_s: how long after an image, in recorded time, its transforms may come.
        scale: `poses` gives metres where poses are known, `model` where the model predicts them, `auto` by poses, else
            by the model; `none` gives the model's unit.
        metres_per_unit: given, it goes before `scale`.
        confidence_floor: less confident depth becomes NaN.
        map_frame: the frame of poses and transforms.
        max_extrapolation_s: how far a stamp may lie outside the known transforms.
        path_poses: newest poses that the path keeps.
        points: given, clouds are written, of these pixels.
        window_messages: whether `window` is written, the largest topic by far.
        copy_topics: `all`, `none`, or a regular expression of the topics that are written with the results.
    """

    image_topics: tuple[str, ...] = ()
    camera_info_topics: tuple[str, ...] = ()
    sync_slop_s: float = 0.02
    start_s: float = 0.0
    duration_s: float | None = None
    every: int = 1
    fps: float | None = None
    window: int = 4
    stride: int = 1
    max_gap_s: float = 2.0
    intrinsics: IntrinsicsSource = "auto"
    pose_source: PoseSource = "auto"
    odom_frame: str = "odom"
    pose_required: bool = False
    tf_timeout_s: float = 0.5
    scale: ScaleChoice = "auto"
    metres_per_unit: float | None = None
    confidence_floor: float = 0.0
    map_frame: str = "da3_map"
    max_extrapolation_s: float = 0.1
    path_poses: int = 1000
    points: PointOptions | None = None
    window_messages: bool = True
    copy_topics: str = "none"

    def __post_init__(self) -> None:
        """Raises InputError for choices that contradict each other."""
        if self.pose_source in ("tf", "rig") and (self.scale not in ("auto", "poses") or self.metres_per_unit):
            raise OptionError(
                "{pose_source} {given} gives metres, which "
                + ("{metres_per_unit} {metres:g}" if self.metres_per_unit else "{scale} {chosen}")
                + " contradicts: leave one out",
                given=self.pose_source,
                metres=self.metres_per_unit,
                chosen=self.scale,
            )
        if self.pose_required and self.pose_source != "tf":
            raise OptionError("{pose_required} came with {pose_source} {given}: it needs tf", given=self.pose_source)
        if len(set(self.image_topics)) < len(self.image_topics):
            raise OptionError("{image_topics} names one topic twice: {given}", given=", ".join(self.image_topics))
        if self.camera_info_topics and len(self.camera_info_topics) != max(1, len(self.image_topics)):
            raise OptionError(
                "there are {infos} {camera_info_topics} for {images} {image_topics}: name as many of both, in the same "
                "order, or none",
                infos=len(self.camera_info_topics),
                images=max(1, len(self.image_topics)),
            )
        points = self.points
        if points and 0 < points.max_depth_m <= points.min_depth_m:
            raise InputError(
                f"points are kept from {points.min_depth_m:g} m to {points.max_depth_m:g} m: the nearest must be less "
                "than the farthest, or the farthest 0"
            )
