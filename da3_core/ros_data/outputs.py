# SPDX-License-Identifier: Apache-2.0
"""Every topic that results become: its name, its type, and what its messages say. The one list that there is.

The live node, bags, the demo's recorder, the reference (`python -m da3_core.ros_data.outputs NAMESPACE` prints its
table) and the tests read it. A new topic about views is one more row of `VIEW_OUTPUTS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from da3_core.geometry.voxel_map import VoxelMap, Voxels
from da3_core.options import CropOptions, MapPointsOptions, PointOptions, ScanOptions
from da3_core.prediction import IntrinsicsOrigin
from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info
from da3_core.ros_data.conventions import camera_pose_in_map, covariance_in_map, depth_in_millimetres, publishable_depth
from da3_core.ros_data.laser_scan import laser_scan
from da3_core.ros_data.maps import MapState
from da3_core.ros_data.point_cloud import kept_pixels, point_cloud, voxel_cloud, within_limits
from da3_core.ros_data.trajectory import Trajectory
from da3_core.ros_data.values import MessageValue, message
from da3_core.stream.session import ScaleSource, View, WindowResult
from da3_core.stream.view_size import at_camera_size
from da3_core.visualise import colorize_depth

# SCALE_* of DepthWindow.msg
SCALE_SOURCES: dict[ScaleSource, int] = {"none": 0, "model": 1, "fixed": 2, "poses": 3, "depth": 4, "height": 5}
# INTRINSICS_* of DepthView.msg
INTRINSICS_SOURCES: dict[IntrinsicsOrigin | None, int] = {None: 0, "known": 1, "estimated": 2, "assumed": 3}


@dataclass(frozen=True)
class OutputOptions:
    """What can be chosen about outputs; the parameters of the node and the options of `da3 bag` say how.

    Attributes:
        map_frame: the frame of poses and transforms.
        confidence_floor: less confident depth becomes NaN.
        points: which pixels become points; None for no clouds.
        windows: whether there is a message about every window.
        transforms: whether the map is joined to the tree of the camera.
        compressed: whether there are depth and its preview in few bytes.
        base_frame: of the robot, whose z is up, for the scan and the limits.
        scan: the laser scan that is made of depth; None for none. It has pixels that become points.
        crop: the part of the robot's surroundings that becomes points; None for all.
        map_points: the cloud of the whole map; None for none.
        at_camera_size: pixels are those of the camera's images, not of the smaller ones that the network saw.
    """

    map_frame: str
    confidence_floor: float
    points: PointOptions | None
    windows: bool
    transforms: bool
    compressed: bool = False
    base_frame: str = ""
    scan: ScanOptions | None = None
    crop: CropOptions | None = None
    map_points: MapPointsOptions | None = None
    at_camera_size: bool = False


@dataclass(frozen=True, eq=False)
class MapEdge:
    """The transform that joins the map to a camera: its child, and the `(4, 4)` pose of the child in the map.

    The child is the camera, the root of the tree that it is in, or the odometry frame.

    Attributes:
        stamp_ns: from when on it holds, for who looks it up.
    """

    child: str
    child_to_map: np.ndarray
    stamp_ns: int


@dataclass(frozen=True)
class ViewOutputs:
    """One view and the values of what is published about it, each made when asked for and None where there is none.

    Stamp and frame id are those of the image, unchanged.

    Attributes:
        edge: None where it is unknown, or published with another view.
        camera_to_base: `(4, 4)` pose of the camera in the robot, or None where that is unknown.
    """

    view: View
    result: WindowResult
    options: OutputOptions
    edge: MapEdge | None = None
    camera_to_base: np.ndarray | None = None

    @cached_property
    def pixels(self) -> View:
        """The view at the size that is published."""
        return at_camera_size(self.view) if self.options.at_camera_size else self.view

    @cached_property
    def header(self) -> MessageValue:
        return values.header(self.view.frame.stamp_ns, self.view.frame.camera)

    @cached_property
    def header_in_map(self) -> MessageValue:
        return values.header(self.view.frame.stamp_ns, self.options.map_frame)

    @cached_property
    def camera_to_map(self) -> np.ndarray | None:
        world_to_camera = self.view.world_to_camera
        return None if world_to_camera is None else camera_pose_in_map(world_to_camera)

    @cached_property
    def _depth(self) -> np.ndarray:
        view = self.pixels
        return publishable_depth(view.depth, view.confidence, view.sky, self.options.confidence_floor)

    @cached_property
    def _depth_mm(self) -> np.ndarray:
        return depth_in_millimetres(self._depth)

    @cached_property
    def _preview(self) -> np.ndarray:
        return colorize_depth(self._depth)

    def transform(self) -> MessageValue | None:
        if self.edge is None:
            return None
        header = values.header(self.edge.stamp_ns, self.options.map_frame)
        return values.transform(header, self.edge.child, self.edge.child_to_map)

    def depth(self) -> MessageValue:
        return values.image(self.header, self._depth, "32FC1")

    def depth_mm(self) -> MessageValue:
        return values.image(self.header, self._depth_mm, "16UC1")

    def compressed_depth(self) -> MessageValue:
        return values.compressed_image(self.header, self._depth_mm, "16UC1")

    def depth_for_compressed_depth(self) -> MessageValue:
        return values.compressed_image(self.header, self._depth_mm, "16UC1", as_depth=True)

    def camera_info(self) -> MessageValue:
        """Uncalibrated where nothing but an assumption is known."""
        view = self.pixels
        calibration = None if view.intrinsics_source == "assumed" else view.intrinsics
        return camera_info(self.header, calibration, view.depth.shape)

    def preview(self) -> MessageValue:
        return values.image(self.header, self._preview, "rgb8")

    def compressed_preview(self) -> MessageValue:
        return values.compressed_image(self.header, self._preview, "rgb8")

    def image(self) -> MessageValue:
        return values.image(self.header, self.pixels.image, "rgb8")

    def confidence_camera_info(self) -> MessageValue | None:
        return None if self.pixels.confidence is None else self.camera_info()

    def sky_camera_info(self) -> MessageValue | None:
        return None if self.pixels.sky is None else self.camera_info()

    def confidence(self) -> MessageValue | None:
        confidence = self.pixels.confidence
        return (
            None
            if confidence is None
            else values.image(self.header, confidence.astype(np.float32, copy=False), "32FC1")
        )

    def sky(self) -> MessageValue | None:
        sky = self.pixels.sky
        return None if sky is None else values.image(self.header, sky.astype(np.uint8) * 255, "mono8")

    def points(self) -> MessageValue | None:
        view, keep = self.pixels, self.options.points
        if keep is None or view.intrinsics is None or not self.limits_are_known:
            return None
        return point_cloud(
            self.header,
            self._depth,
            view.intrinsics,
            rgb=view.image,
            confidence=view.confidence,
            keep=keep,
            within=self._within,
        )

    @property
    def limits_are_known(self) -> bool:
        """Whether it can be said which part of the surroundings becomes points."""
        return self.options.crop is None or self.camera_to_base is not None

    @cached_property
    def _within(self) -> np.ndarray | None:
        """`(H, W)` bool: pixels within the limits; None for all."""
        crop, intrinsics = self.options.crop, self.pixels.intrinsics
        if crop is None or intrinsics is None or self.camera_to_base is None:
            return None
        return within_limits(self._depth, intrinsics, self.camera_to_base, crop)

    def add_to(self, voxels: VoxelMap) -> None:
        """Take the view into a map, the pixels that become points; it has a pose, intrinsics and known limits."""
        view = self.pixels
        assert view.intrinsics is not None
        assert view.world_to_camera is not None
        chosen = kept_pixels(self._depth, view.confidence, self.options.points or PointOptions())
        if self._within is not None:
            chosen &= self._within
        voxels.add(self._depth, chosen, view.image, view.confidence, view.intrinsics, view.world_to_camera, view.number)

    def scan(self) -> MessageValue | None:
        view, band = self.pixels, self.options.scan
        if band is None or self.camera_to_base is None or view.intrinsics is None:
            return None
        kept = kept_pixels(self._depth, view.confidence, self.options.points or PointOptions())
        header = values.header(view.frame.stamp_ns, self.options.base_frame)
        return laser_scan(header, self._depth, kept, view.intrinsics, self.camera_to_base, band)

    def pose(self) -> MessageValue | None:
        return None if self.camera_to_map is None else values.pose_stamped(self.header_in_map, self.camera_to_map)

    def odometry(self) -> MessageValue | None:
        if self.camera_to_map is None:
            return None
        covariance = covariance_in_map(self.view.pose_covariance)
        return values.odometry(self.header_in_map, self.view.frame.camera, self.camera_to_map, covariance)

    def depth_view(self) -> MessageValue:
        """The view within the message about its window."""
        return message(
            "da3_ros/msg/DepthView",
            header=self.header,
            camera_info=self.camera_info(),
            intrinsics_source=INTRINSICS_SOURCES[self.view.intrinsics_source],
            camera_in_map=values.pose(self.camera_to_map),
            depth=self.depth(),
            confidence=self.confidence() or values.no_image(self.header),
        )


@dataclass(frozen=True, eq=False)
class CameraOutputs:
    """One camera up to its newest view, and the values of what is published about that.

    Attributes:
        trajectory: of its views in this map.
    """

    newest: ViewOutputs
    trajectory: Trajectory

    def path(self) -> MessageValue | None:
        poses = self.trajectory.messages()
        return values.path(self.newest.header_in_map, poses) if poses else None


@dataclass(frozen=True, eq=False)
class WindowOutputs:
    """One inference, and the values of what is published about all of it.

    Attributes:
        views: all of the window, oldest first.
        model: the model's name as given.
        map: the map that it is in; None where what is known of that has been told.
        voxels: the whole map, when it is time to tell it.
    """

    views: Sequence[ViewOutputs]
    model: str
    map: MapState | None = None
    voxels: Voxels | None = None

    @property
    def result(self) -> WindowResult:
        return self.views[-1].result

    @property
    def facts(self) -> tuple[object, ...]:
        """What `map_info` is about: as long as it stays, nothing needs to be told again."""
        return self.result.segment, self.result.scale_source, self.views[-1].view.intrinsics_source

    def map_info(self) -> MessageValue | None:
        if self.map is None:
            return None
        newest, result = self.views[-1], self.result
        return message(
            "da3_ros/msg/MapInfo",
            header=values.header(self.map.began_ns, newest.options.map_frame),
            segment=self.map.segment,
            reason=self.map.reason,
            scale_source=SCALE_SOURCES[result.scale_source],
            unit="model units" if result.scale_source == "none" else "metres",
            scale_deviation=result.scale_deviation,
            intrinsics_source=newest.view.intrinsics_source or "",
            up="given poses" if result.placement == "known" else result.up,
        )

    def map_points(self) -> MessageValue | None:
        return None if self.voxels is None else voxel_cloud(self.views[-1].header_in_map, self.voxels)

    def window(self) -> MessageValue:
        newest, result = self.views[-1], self.views[-1].result
        return message(
            "da3_ros/msg/DepthWindow",
            header=newest.header_in_map,
            model=self.model,
            views=[view.depth_view() for view in self.views],
            scale_m_per_unit=result.scale_m_per_unit,
            scale_source=SCALE_SOURCES[result.scale_source],
            scale_deviation=result.scale_deviation,
            alignment_residual=result.alignment_residual,
            map_segment=result.segment,
            inference_s=result.inference_s,
        )


Source = TypeVar("Source")


@dataclass(frozen=True)
class Output(Generic[Source]):
    """One topic.

    Attributes:
        name: below the name of the node, and of the camera of a rig; or from the root, with a slash.
        type: as ROS writes it.
        value: what a message says; None where there is nothing to say.
        sentence: what it is about, for the reference; of an image, its encoding comes first.
        condition: when there are messages, for the reference; empty for always.
        chosen: whether it is wanted at all.
        qos_depth: messages that are kept for slow subscribers; None for what the node is told.
        latched: the last message is kept for who subscribes later.
        live_only: it is no part of a bag that was made of another one.
    """

    name: str
    type: str
    value: Callable[[Source], MessageValue | None]
    sentence: str
    condition: str = ""
    chosen: Callable[[OutputOptions], bool] = lambda options: True
    qos_depth: int | None = None
    latched: bool = False
    live_only: bool = False

    @property
    def is_always_sent(self) -> bool:
        """Also where nobody seems to listen: who looks up a transform later subscribes through somebody else, or has
        just not been noticed yet."""
        return self.latched or self is TRANSFORM

    def topic(self, node: str, camera: str = "") -> str:
        """Its whole name; `node` is `/da3` or, in ROS, `~`, and the name of a single camera is empty."""
        return self.name if self.name.startswith("/") else "/".join(filter(None, (node, camera, self.name)))


TRANSFORM = Output(
    "/tf",
    values.TRANSFORMS,
    ViewOutputs.transform,
    "the map frame to the camera, to the root of the tree it is in, or to the odometry frame",
    "with a pose",
    lambda options: options.transforms,
    qos_depth=100,
)
VIEW_OUTPUTS: tuple[Output[ViewOutputs], ...] = (
    TRANSFORM,  # first, so that listeners can place what follows
    Output(
        "depth/image",
        values.IMAGE,
        ViewOutputs.depth,
        "32FC1, depth along the optical axis; NaN unknown, +Inf sky (REP 117, 118)",
    ),
    Output(
        "depth/image_raw",
        values.IMAGE,
        ViewOutputs.depth_mm,
        "16UC1, the same in millimetres, 0 unknown or beyond 65.535 m",
    ),
    Output(
        "depth/camera_info",
        values.CAMERA_INFO,
        ViewOutputs.camera_info,
        "pinhole camera of exactly the depth image's size; K is 0 where it is neither known nor estimated",
    ),
    Output(
        "depth/image/compressed",
        values.COMPRESSED_IMAGE,
        ViewOutputs.compressed_depth,
        "depth in millimetres as PNG of 16 bits",
        chosen=lambda options: options.compressed,
        live_only=True,
    ),
    Output(
        "depth/image/compressedDepth",
        values.COMPRESSED_IMAGE,
        ViewOutputs.depth_for_compressed_depth,
        "the same as subscribers with the image transport compressedDepth read it",
        chosen=lambda options: options.compressed,
        live_only=True,
    ),
    Output("depth/preview", values.IMAGE, ViewOutputs.preview, "rgb8, depth in colours, near is red"),
    Output(
        "depth/preview/compressed",
        values.COMPRESSED_IMAGE,
        ViewOutputs.compressed_preview,
        "the same as JPEG",
        chosen=lambda options: options.compressed,
        live_only=True,
    ),
    Output(
        "image_rect",
        values.IMAGE,
        ViewOutputs.image,
        "rgb8, the image as the network saw it, pixel-aligned with depth",
    ),
    Output("camera_info", values.CAMERA_INFO, ViewOutputs.camera_info, "the camera of image_rect"),
    Output(
        "confidence/image",
        values.IMAGE,
        ViewOutputs.confidence,
        "32FC1, at least 1, higher is better, not a probability",
        "models with confidence",
    ),
    Output(
        "confidence/camera_info",
        values.CAMERA_INFO,
        ViewOutputs.confidence_camera_info,
        "the camera of confidence/image",
        "models with confidence",
    ),
    Output(
        "sky/image", values.IMAGE, ViewOutputs.sky, "mono8, 255 is sky", "models with a sky head, else with sky in view"
    ),
    Output(
        "sky/camera_info",
        values.CAMERA_INFO,
        ViewOutputs.sky_camera_info,
        "the camera of sky/image",
        "models with a sky head, else with sky in view",
    ),
    Output(
        "scan",
        values.LASER_SCAN,
        ViewOutputs.scan,
        "in base_frame, the nearest thing of every bearing in a band of heights; NaN unknown, +Inf free (REP 117)",
        "with the camera's place in base_frame",
        lambda options: options.scan is not None,
        live_only=True,
    ),
    Output(
        "points",
        values.POINT_CLOUD,
        ViewOutputs.points,
        "x y z rgb confidence in the camera's optical frame, of the pixels that are chosen",
        "with intrinsics, known, estimated or assumed",
        lambda options: options.points is not None,
    ),
    Output(
        "pose",
        values.POSE_STAMPED,
        ViewOutputs.pose,
        "the camera's optical frame in the map frame",
        "with a pose",
    ),
    Output(
        "odometry",
        values.ODOMETRY,
        ViewOutputs.odometry,
        "the same with a covariance that grows along the chain of windows; unknown (1e6) for poses that were given",
        "with a pose",
    ),
)
CAMERA_OUTPUTS: tuple[Output[CameraOutputs], ...] = (
    Output("path", values.PATH, CameraOutputs.path, "the trajectory of this map, as it is known by now", "with a pose"),
)
WINDOW_OUTPUTS: tuple[Output[WindowOutputs], ...] = (
    Output(
        "map_info",
        "da3_ros/msg/MapInfo",
        WindowOutputs.map_info,
        "latched: the number of the map and why it began, its unit, and what that and the camera rest on",
        "of a new map, or one that more is known of",
        qos_depth=1,
        latched=True,
    ),
    Output(
        "map_points",
        values.POINT_CLOUD,
        WindowOutputs.map_points,
        "latched: x y z rgb confidence of the voxels of the map; what later views see through fades",
        "with poses, `map_points.rate_hz` times a second",
        lambda options: options.map_points is not None,
        qos_depth=1,
        latched=True,
        live_only=True,
    ),
    Output(
        "window",
        "da3_ros/msg/DepthWindow",
        WindowOutputs.window,
        "everything about one inference in one message, by far the largest",
        chosen=lambda options: options.windows,
    ),
)
OUTPUTS: tuple[Output[Any], ...] = (*VIEW_OUTPUTS, *CAMERA_OUTPUTS, *WINDOW_OUTPUTS)


def to_markdown(node: str) -> str:
    """The table of the documentation, with topics below `node`, those of the live node where that is `~`."""
    lines = ["| topic | type | for every | when | |", "|---|---|---|---|---|"]
    for what, outputs in (("view", VIEW_OUTPUTS), ("window", CAMERA_OUTPUTS), ("window", WINDOW_OUTPUTS)):
        for each in outputs:
            if each.live_only and node != "~":
                continue
            kind = each.type.replace("/msg/", "/")
            lines.append(
                f"| `{each.topic(node)}` | `{kind}` | {what} | {each.condition or 'always'} | {each.sentence} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_markdown(sys.argv[1]))
