# SPDX-License-Identifier: Apache-2.0
"""The one table of the node's parameters: every name, type, default, limit and sentence, or the option that has it.

The fields of `Settings` are the parameters, its instances are what the node works with. What is made of the table
(declarations, checks, YAML file, launch arguments, reference) is in `parameters`.
"""

from dataclasses import dataclass, field, fields
from typing import Literal

from da3_core.bag.options import BagOptions, IntrinsicsSource
from da3_core.options import (
    CropOptions,
    InferenceOptions,
    IsRectified,
    LiveScale,
    MapPointsOptions,
    MapUp,
    ModelOptions,
    PointOptions,
    RectifyOptions,
    ScanOptions,
    option,
    same_option,
)
from da3_core.ros_data.camera_places import LivePoseSource


@dataclass(frozen=True)
class WindowSettings:
    """Which images are inferred together."""

    size: int = same_option(BagOptions, "window")
    stride: int = same_option(BagOptions, "stride")
    max_stride: int | None = option(
        None,
        "Most new images in a window where inference falls behind the camera, so that more of the images are used; one "
        "view is shared in any case, fewer join less surely.",
        low=1,
        high=64,
        unset="window.stride",
        dynamic=True,
    )
    alignment_views: int = same_option(BagOptions, "alignment_views")
    max_gap_s: float = same_option(BagOptions, "max_gap_s", high=1e9)
    keyframe_min_motion: float = option(
        0.0,
        "Mean difference of thumbnails, of 255, below which an image is not a new view; 0 takes every image.",
        low=0.0,
        high=255.0,
        dynamic=True,
    )

    @property
    def most_new(self) -> int:
        """The most new images that a window takes which shares views with the one before."""
        return max(self.stride, min(self.max_stride or self.stride, self.size - 1))


@dataclass(frozen=True)
class QueueSettings:
    """What waits for inference with every_frame."""

    max_frames: int = option(100, "Images that may wait with every_frame; more are refused.", low=1, high=100_000)


@dataclass(frozen=True)
class IntrinsicsSettings:
    """Where the camera matrix comes from."""

    source: IntrinsicsSource = same_option(
        BagOptions,
        "intrinsics",
        sentence="auto: CameraInfo where it is calibrated, else the model's estimate; camera_info: wait for it; "
        "model: always the estimate.",
    )


@dataclass(frozen=True)
class ScaleSettings:
    """Where metres come from."""

    source: LiveScale = option(
        "auto",
        "poses: metres where poses of the cameras or their places in a rig are known; model: where the model predicts "
        "them; auto: by poses, else by the model; depth_topic: those of reference_depth; camera_height: by the ground "
        "below the camera; fixed: scale.fixed_m_per_unit; none: the model's unit.",
    )
    reference_type: Literal["image", "points"] = option(
        "image",
        "What reference_depth is, for scale.source depth_topic. image: a depth image, aligned with the image once that "
        "is rectified, as sparse as it may be; points: a PointCloud2, which /tf ties to the camera.",
    )
    reference_slop_s: float = same_option(
        BagOptions, "reference_slop_s", sentence="How far in time from an image reference_depth may be; seconds."
    )
    camera_height_m: float = same_option(
        BagOptions,
        "camera_height_m",
        sentence="Height of the camera above the ground, for scale.source camera_height; metres.",
    )
    fixed_m_per_unit: float = option(
        1.0, "Metres per unit of the model's depth, for scale.source fixed.", low=1e-6, high=1e6
    )
    refine: bool = same_option(InferenceOptions, "refine_scale")


@dataclass(frozen=True)
class MapSettings:
    """How the map lies."""

    up: MapUp = same_option(
        BagOptions,
        "map_up",
        sentence="What makes the map level where it begins. camera: it is taken to be; imu: Imu on imu, which /tf ties "
        "to the camera; tf: z of odom_frame; floor: the ground that is seen.",
    )


@dataclass(frozen=True)
class SyncSettings:
    """Which images of a rig belong together."""

    slop_s: float = same_option(BagOptions, "sync_slop_s", high=1e9)


@dataclass(frozen=True)
class LoopSettings:
    """Places that the camera comes back to."""

    closure: bool = option(
        False,
        "Look for places that the camera has seen before, with one more inference now and then, beside the stream; "
        "where one is found, the map is bent until both ends meet. What was published before stands.",
    )


@dataclass(frozen=True)
class DepthSettings:
    """What the depth images hold."""

    size: Literal["processed", "camera"] = option(
        "processed",
        "processed: depth and all that is aligned with it at the size that the network saw; camera: at that of the "
        "camera's images, with edges where these have them.",
        dynamic=True,
    )
    confidence_floor: float = same_option(BagOptions, "confidence_floor", high=1e9)


NO_MASK = "none"


@dataclass(frozen=True)
class MaskSettings:
    """What of the images is left out."""

    robot_body: str = option(
        NO_MASK,
        "Image file of the camera's size, not 0 where the robot itself is in view, which is kept out of alignment, "
        "clouds and the map; or none.",
    )


@dataclass(frozen=True)
class TfSettings:
    """What the node publishes on /tf, and how it heeds what others do."""

    mode: Literal["camera", "map_to_odom", "none"] = option(
        "camera",
        "camera: map_frame to the camera, or to the root of the tree that the camera is in; map_to_odom: map_frame to "
        "odom_frame, which the camera must be below on /tf; none: nothing.",
    )
    ahead_s: float = option(
        0.0,
        "How far after the stamp of its image map_to_odom is dated, for who looks up transforms of the present, as "
        "Nav2 does; seconds.",
        low=0.0,
        high=60.0,
        dynamic=True,
    )
    max_extrapolation_s: float = same_option(BagOptions, "max_extrapolation_s", high=1e9)
    timeout_s: float = same_option(
        BagOptions,
        "tf_timeout_s",
        sentence="How long an image waits for transforms, odometry and reference_depth about it; seconds.",
        high=1e6,
        dynamic=True,
    )


@dataclass(frozen=True)
class PathSettings:
    """The published trajectory."""

    max_poses: int = same_option(BagOptions, "path_poses")


@dataclass(frozen=True)
class ExportSettings:
    """What requests may have written, and where."""

    root: str = option(
        "~/da3_exports",
        "Folder below which ~/export and ~/process_bag write, nowhere else; ~ is the home folder of the node's user.",
    )
    max_views: int = option(
        100, "Views of a map that are remembered for an export, spread evenly over time.", low=1, high=10_000
    )


@dataclass(frozen=True)
class BagSettings:
    """Where the bags are that requests may have processed."""

    root: str = option(
        "~/da3_bags", "Folder below which ~/process_bag reads bags, and nowhere else; ~ is as in export.root."
    )


@dataclass(frozen=True)
class MemorySettings:
    """What the node may take."""

    budget_mb: float = option(
        0.0,
        "Most memory of an inference, beside the weights: windows become smaller, then process_res, or configure is "
        "refused; megabytes, 0 is no limit.",
        low=0.0,
        high=1e9,
    )


@dataclass(frozen=True)
class QosSettings:
    """Quality of service of what is published."""

    depth: int = option(10, "Messages that publishers keep for slow subscribers.", low=1, high=10_000)


@dataclass(frozen=True)
class Settings(InferenceOptions, ModelOptions):
    """All parameters, those of the model and of its inference first. `Settings()` has their defaults."""

    engine_process: str | None = option(
        None,
        "Name of a process that holds the model for all nodes of this user that give this name, with one and the same "
        "model; it is started where there is none, and ends after them.",
        unset="the node's own",
    )
    image_transport: Literal["raw", "compressed", "ffmpeg", "foxglove"] = option(
        "raw",
        "Subscribe image as sensor_msgs/Image; image/compressed as jpeg, png and webp; or a video, image/ffmpeg or "
        "image/foxglove.",
    )
    cameras: str | None = option(
        None,
        "Names of the cameras of a rig, with commas between them, such as front,left: of each, image and camera_info "
        "below its name are subscribed, and images of one time are inferred together.",
        unset="one camera",
    )
    pose_source: LivePoseSource = option(
        "auto",
        "tf: poses of the cameras in odom_frame by /tf; odom_topic: by Odometry on odom and /tf_static; rig: of the "
        "cameras of a rig among each other, by /tf_static; auto: rig where it is known; none.",
    )
    odom_frame: str = same_option(BagOptions, "odom_frame")
    pose_required: bool = same_option(
        BagOptions, "pose_required", sentence="Leave out images without a pose, where pose_source is tf or odom_topic."
    )
    image_is_rectified: IsRectified = same_option(BagOptions, "image_is_rectified")
    mode: Literal["stream", "on_demand"] = option(
        "stream", "stream: infer as images arrive; on_demand: only when ~/infer is called.", dynamic=True
    )
    every_frame: bool = option(
        False, "Use every image in order and fall behind rather than skip, for playback; false takes the newest."
    )
    max_rate_hz: float = option(
        0.0, "Most inferences per second; 0 is as many as possible.", low=0.0, high=1e6, dynamic=True
    )
    map_frame: str = same_option(
        BagOptions,
        "map_frame",
        sentence="Name of the frame that poses, path and transforms are given in; in a namespace, the default is "
        "NAMESPACE/da3_map.",
    )
    base_frame: str = option(
        "base_link",
        "The robot's frame, with z up, for the scan and the limits of crop; the camera's frame is below it.",
    )
    autostart: bool = option(True, "Configure and activate at start, without a lifecycle manager.")
    watchdog_s: float = option(
        5.0,
        "Without an image for so long, diagnostics warn and say what is waited for; seconds.",
        low=0.1,
        high=1e6,
        dynamic=True,
    )
    max_consecutive_failures: int = option(
        5,
        "Failed inferences in a row after which the node pauses before it tries again, longer after each further one; "
        "diagnostics say for how long.",
        low=1,
        high=1_000_000,
        dynamic=True,
    )
    window: WindowSettings = field(default_factory=WindowSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    intrinsics: IntrinsicsSettings = field(default_factory=IntrinsicsSettings)
    rectify: RectifyOptions = field(default_factory=RectifyOptions)
    map: MapSettings = field(default_factory=MapSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    scale: ScaleSettings = field(default_factory=ScaleSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    depth: DepthSettings = field(default_factory=DepthSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    points: PointOptions = field(default_factory=PointOptions)
    crop: CropOptions = field(default_factory=CropOptions)
    scan: ScanOptions = field(default_factory=ScanOptions)
    map_points: MapPointsOptions = field(default_factory=MapPointsOptions)
    tf: TfSettings = field(default_factory=TfSettings)
    path: PathSettings = field(default_factory=PathSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    bag: BagSettings = field(default_factory=BagSettings)
    qos: QosSettings = field(default_factory=QosSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Of a rig; none for a single camera."""
        return tuple(name.strip() for name in self.cameras.split(",")) if self.cameras else ()

    @property
    def has_poses(self) -> bool:
        """Whether images are to come with poses."""
        return self.pose_source in ("tf", "odom_topic")

    @property
    def inference(self) -> InferenceOptions:
        """What the model is asked for."""
        chosen = {each.name: getattr(self, each.name) for each in fields(InferenceOptions)}
        return InferenceOptions(**chosen | {"refine_scale": self.scale.refine})
