# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about the processing of a bag, with the defaults; it imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

from da3_core.errors import OptionError
from da3_core.options import Checked, Face, IsRectified, MapUp, PointOptions, RectifyOptions, option, same_option

Storage = Literal["mcap", "sqlite3"]
IntrinsicsSource = Literal["auto", "camera_info", "model"]
ScaleChoice = Literal["auto", "poses", "model", "depth_topic", "camera_height", "none"]
PoseSource = Literal["auto", "none", "tf", "rig"]

_LONGEST_S = 1e9  # some thirty years
# A request to the node takes the others from the node's parameters.
_ASKED: tuple[Face, ...] = ("bag", "bag_request")
_COMMAND: tuple[Face, ...] = ("bag",)


@dataclass(frozen=True)
class BagOptions(Checked):
    """Choices of `process_bag`; those that the live node has too are the same options there.

    With poses, the model is shown them where it can see them, depth takes their metres, and the poses of the results
    are the given ones. Images without a pose are used without. With `tf`, `map_frame` lies where `odom_frame` is.

    Attributes:
        points: given, clouds are written, of these pixels.
    """

    image_topics: tuple[str, ...] = option(
        (),
        "Topics of Image or CompressedImage; several are the cameras of a rig, whose images of one frame set are "
        "inferred together.",
        unset="the one with images",
        faces=_ASKED,
    )
    camera_info_topics: tuple[str, ...] = option(
        (),
        "Calibration; one for each of the image topics, in their order.",
        unset="camera_info beside the images",
        faces=_ASKED,
    )
    sync_slop_s: float = option(
        0.02, "How far stamps of a rig's images of one frame set may be apart; seconds.", low=0, faces=_COMMAND
    )
    start_s: float = option(0.0, "Seconds into the bag.", low=0, high=_LONGEST_S, faces=_ASKED)
    duration_s: float | None = option(
        None, "Seconds of the bag.", low=1e-9, high=_LONGEST_S, unset="to its end", faces=_ASKED
    )
    every: int = option(1, "Take every n-th image.", low=1, faces=_ASKED)
    fps: float | None = option(
        None, "Images taken per second of their stamps.", low=1e-6, high=1e6, unset="all", faces=_ASKED
    )
    window: int = option(
        4,
        "Views inferred together, 1 is monocular depth, the fastest; of a rig, frame sets.",
        low=1,
        high=64,
        faces=_COMMAND,
    )
    stride: int = option(
        1,
        "New views per inference; fewer than a window has, so that windows share views to be joined by.",
        low=1,
        high=64,
        faces=_COMMAND,
    )
    alignment_views: int = option(
        3,
        "Views of the last window whose depth is inferred once more, to place the next one; more flicker less, fewer "
        "are faster.",
        low=1,
        high=64,
        faces=_COMMAND,
    )
    max_gap_s: float = option(
        2.0, "A longer gap between stamps, or time going backwards, starts a new map; seconds.", low=0, faces=_COMMAND
    )
    intrinsics: IntrinsicsSource = option(
        "auto",
        "auto: CameraInfo where it is calibrated, else the model's estimate; camera_info: only images with it; "
        "model: always the estimate.",
        faces=_COMMAND,
    )
    image_is_rectified: IsRectified = option(
        "auto",
        "Whether the lens distortion that CameraInfo tells of is gone from the images, so that its P is their camera; "
        "auto: where the name of their topic says rect.",
        faces=_COMMAND,
    )
    rectify_alpha: float = same_option(RectifyOptions, "alpha", faces=_COMMAND)
    pose_source: PoseSource = option(
        "auto",
        "tf: poses of the cameras in the odometry frame by the bag's transforms; rig: of the cameras of a rig among "
        "each other by /tf_static; auto: rig where it is known; none.",
        faces=_ASKED,
    )
    odom_frame: str = option("odom", "Frame that the pose source tf takes poses in.", faces=_ASKED)
    pose_required: bool = option(False, "Leave out images that the pose source tf knows no pose of.", faces=_COMMAND)
    tf_timeout_s: float = option(
        0.5, "How long after an image, in recorded time, its transforms may come.", low=0, faces=()
    )
    scale: ScaleChoice = option(
        "auto",
        "poses: metres where poses are known; model: where the model predicts them; auto: by poses, else by the "
        "model; depth_topic: those of another sensor; camera_height: by the ground below the camera; none: the model's "
        "unit.",
        faces=_COMMAND,
    )
    reference_topic: str | None = option(
        None,
        "Topic of the scale depth_topic: a PointCloud2, which the transforms tie to the camera, or a depth Image that "
        "is aligned with the images once these are rectified.",
        unset="none",
        faces=_ASKED,
    )
    reference_slop_s: float = option(
        0.1, "How far in time from an image reference depth may be; seconds.", low=0.0, high=1e6, faces=_COMMAND
    )
    camera_height_m: float = option(
        1.0,
        "Height of the camera above the ground, for the scale camera_height; metres.",
        low=1e-3,
        high=1e4,
        faces=_COMMAND,
    )
    map_up: MapUp = option(
        "camera",
        "What makes the map level where it begins. camera: it is taken to be; imu: an Imu that the transforms tie to "
        "the camera; tf: z of the odometry frame; floor: the ground that is seen.",
        faces=_COMMAND,
    )
    imu_topic: str | None = option(None, "Topic of the Imu.", unset="the one with Imu", faces=_ASKED)
    metres_per_unit: float | None = option(
        None,
        "Metres per unit of the model's depth, in place of the scale.",
        low=1e-6,
        high=1e6,
        unset="no",
        faces=_COMMAND,
    )
    confidence_floor: float = option(
        0.0,
        "Pixels of lower confidence (it is at least 1) become NaN in depth images; 0 keeps all.",
        low=0,
        dynamic=True,
        faces=_COMMAND,
    )
    map_frame: str = option(
        "da3_map", "Name of the frame that poses, path and transforms are given in.", faces=_COMMAND
    )
    max_extrapolation_s: float = option(
        0.1, "How far the stamp of an image may lie outside the known transforms of its tree; seconds.", low=0, faces=()
    )
    path_poses: int = option(1000, "Newest poses that the path keeps.", low=1, high=1_000_000, dynamic=True, faces=())
    points: PointOptions | None = None
    window_messages: bool = option(True, "Write the topic window too, the largest by far.", faces=_ASKED)
    copy_topics: str = option(
        "none", "Topics copied beside the results: all, none or a regular expression.", faces=_COMMAND
    )

    def __post_init__(self) -> None:
        """Raises InputError, for choices that contradict each other too."""
        super().__post_init__()
        if self.stride >= max(self.window, 2):
            raise OptionError(
                "{stride} is {given} and {window} {size}: windows must share views, so give a smaller one (1 for a "
                "window of 1)",
                given=self.stride,
                size=self.window,
            )
        if self.pose_source in ("tf", "rig") and (self.scale not in ("auto", "poses") or self.metres_per_unit):
            raise OptionError(
                "{pose_source} {given} gives metres, which "
                + ("{metres_per_unit} {metres:g}" if self.metres_per_unit else "{scale} {chosen}")
                + " contradicts: leave one out",
                given=self.pose_source,
                metres=self.metres_per_unit,
                chosen=self.scale,
            )
        if (self.scale == "depth_topic") != (self.reference_topic is not None):
            raise OptionError("{reference_topic} and {scale} depth_topic go together: give both or none of them")
        if self.imu_topic and self.map_up != "imu":
            raise OptionError("{imu_topic} came with {map_up} {given}: it is for imu", given=self.map_up)
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
