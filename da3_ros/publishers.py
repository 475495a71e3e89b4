# SPDX-License-Identifier: Apache-2.0
"""A window's result becomes topics and transforms. What nobody subscribes to is not computed."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from da3_core.ros_data.conventions import pose_sigmas
from da3_core.ros_data.transform_tree import TransformTree, TransformUnknown
from da3_core.stream.session import View, WindowResult
from da3_core.visualise import colorize_depth
from da3_ros import poses
from da3_ros.clouds import depth_cloud
from da3_ros.messages import (
    camera_info_message,
    confidence_message,
    depth_message,
    depth_mm_message,
    mono_message,
    publishable_depth,
    rgb_message,
    to_stamp,
)
from da3_ros.msg import DepthView, DepthWindow
from da3_ros.settings import Settings

SCALE_SOURCES = {
    "none": DepthWindow.SCALE_NONE,
    "model": DepthWindow.SCALE_MODEL,
    "fixed": DepthWindow.SCALE_FIXED,
    "poses": DepthWindow.SCALE_POSES,
}
TF_DEPTH = 100


class ViewOutputs:
    """One view and what is published about it, each message made when asked for and None where there is none.

    Stamp and frame id are those of the image, unchanged.
    """

    def __init__(self, view: View, result: WindowResult, settings: Settings) -> None:
        self._view, self._result, self._settings = view, result, settings
        self.stamp_ns, self.camera = view.frame.stamp_ns, view.frame.camera
        self.stamp = to_stamp(self.stamp_ns)
        self.header = Header(stamp=self.stamp, frame_id=self.camera)

    @cached_property
    def _depth(self) -> np.ndarray:
        view = self._view
        return publishable_depth(view.depth, view.confidence, view.sky, self._settings.depth.confidence_floor)

    @cached_property
    def camera_to_map(self) -> np.ndarray | None:
        world_to_camera = self._view.world_to_camera
        return None if world_to_camera is None else poses.camera_pose_in_map(world_to_camera)

    def depth(self) -> Image:
        return depth_message(self.header, self._depth)

    def depth_mm(self) -> Image:
        return depth_mm_message(self.header, self._depth)

    def camera_info(self) -> CameraInfo | None:
        intrinsics = self._view.intrinsics
        return None if intrinsics is None else camera_info_message(self.header, intrinsics, self._depth.shape)

    def image(self) -> Image:
        return rgb_message(self.header, self._view.image)

    def confidence(self) -> Image | None:
        return None if self._view.confidence is None else confidence_message(self.header, self._view.confidence)

    def sky(self) -> Image | None:
        return None if self._view.sky is None else mono_message(self.header, self._view.sky)

    def preview(self) -> Image:
        return rgb_message(self.header, colorize_depth(self._depth))

    def points(self) -> PointCloud2 | None:
        view = self._view
        if view.intrinsics is None:
            return None
        return depth_cloud(
            self.header,
            self._depth,
            view.intrinsics,
            rgb=view.image,
            confidence=view.confidence,
            keep=self._settings.points,
        )

    def pose(self) -> PoseStamped | None:
        camera_to_map = self.camera_to_map
        return (
            None if camera_to_map is None else poses.pose_stamped(self.stamp, self._settings.map_frame, camera_to_map)
        )

    def odometry(self) -> Odometry | None:
        if self.camera_to_map is None:
            return None
        sigmas = pose_sigmas(self._result.alignment_residual, self._depth)
        return poses.odometry(self.stamp, self._settings.map_frame, self.camera, self.camera_to_map, *sigmas)

    def depth_view(self) -> DepthView:
        message = DepthView(header=self.header, depth=self.depth())
        message.camera_info = self.camera_info() or CameraInfo(header=self.header)
        message.confidence = self.confidence() or Image(header=self.header)
        if self.camera_to_map is None:
            message.camera_in_map.orientation.w = 0.0
        else:
            message.camera_in_map = poses.pose_message(self.camera_to_map)
        return message


# Every topic about one image: its name below the node's, its type, and what makes it.
VIEW_TOPICS: dict[str, tuple[type, Callable[[ViewOutputs], Any]]] = {
    "depth/image": (Image, ViewOutputs.depth),
    "depth/image_raw": (Image, ViewOutputs.depth_mm),
    "depth/camera_info": (CameraInfo, ViewOutputs.camera_info),
    "depth/preview": (Image, ViewOutputs.preview),
    "image_rect": (Image, ViewOutputs.image),
    "confidence/image": (Image, ViewOutputs.confidence),
    "sky/image": (Image, ViewOutputs.sky),
    "points": (PointCloud2, ViewOutputs.points),
    "pose": (PoseStamped, ViewOutputs.pose),
    "odometry": (Odometry, ViewOutputs.odometry),
}


@dataclass(frozen=True)
class OutputState:
    """What has become of publications.

    Attributes:
        failures: publications that the middleware refused, by topic.
        transform: what became of the last transform, in words.
        transform_is_missing: there was a pose and no transform could be published.
    """

    failures: Mapping[str, int]
    transform: str
    transform_is_missing: bool


class Publishers:
    """Every publisher of the node, from construction to `close`.

    Args:
        model: its name in messages.
    """

    def __init__(self, node: LifecycleNode, settings: Settings, tree: TransformTree, model: str) -> None:
        self._node, self._tree, self._model = node, tree, model
        self._session = self._segment = 0
        self._path: deque[PoseStamped] = deque()
        self._failures: Counter[str] = Counter()
        self._tf_state = "no pose yet"
        self._tf_is_missing = False
        self.apply(settings)

        self._view_publishers = {topic: self._create(kind, f"~/{topic}") for topic, (kind, _) in VIEW_TOPICS.items()}
        self._path_publisher = self._create(Path, "~/path")
        self._window_publisher = self._create(DepthWindow, "~/window")
        self._tf_publisher = self._create(TFMessage, "/tf", TF_DEPTH) if settings.tf.mode == "camera" else None

    def _create(self, kind: type, topic: str, depth: int | None = None) -> LifecyclePublisher:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            QoSProfile(depth=depth or self._settings.qos.depth),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def close(self) -> None:
        for publisher in (*self._view_publishers.values(), self._path_publisher, self._window_publisher):
            self._node.destroy_lifecycle_publisher(publisher)
        if self._tf_publisher:
            self._node.destroy_lifecycle_publisher(self._tf_publisher)

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._settings = settings
        self._path = deque(self._path, maxlen=settings.path.max_poses)

    def state(self) -> OutputState:
        return OutputState(dict(self._failures), self._tf_state, self._tf_is_missing)

    def reset(self) -> None:
        """Forget the trajectory."""
        self._path.clear()

    def publish(self, result: WindowResult, session: int) -> None:
        """Every new view of a result, then the path and the window."""
        if (session, result.segment) != (self._session, self._segment):
            self._session, self._segment = session, result.segment
            self.reset()
        outputs = [ViewOutputs(view, result, self._settings) for view in result.views]
        new = [each for each, view in zip(outputs, result.views, strict=True) if view.is_new]

        for each in new:
            self._publish_transform(each)  # first, so that listeners can place what follows
            for topic, (_, make) in VIEW_TOPICS.items():
                self._publish(self._view_publishers[topic], make, each)
        self._path.extend(pose for each in new if (pose := each.pose()))
        newest = outputs[-1]
        if self._path:
            self._publish(self._path_publisher, poses.path, newest.stamp, self._settings.map_frame, self._path)
        self._publish(self._window_publisher, self._window_message, result, outputs)

    def _publish(self, publisher: LifecyclePublisher, make: Callable[..., Any], *of: Any) -> None:
        if publisher.get_subscription_count() == 0:
            return
        message = make(*of)
        if message is not None:
            self._send(publisher, message)

    def _send(self, publisher: LifecyclePublisher, message: Any) -> None:
        try:
            publisher.publish(message)
        except RuntimeError:  # RCLError: the middleware is flooded, or the node is shutting down
            self._failures[publisher.topic_name] += 1

    def _publish_transform(self, view: ViewOutputs) -> None:
        self._tf_is_missing = False
        if self._tf_publisher is None or view.camera_to_map is None:
            self._tf_state = "off" if self._tf_publisher is None else "no pose"
            return
        try:
            if not view.camera:
                raise TransformUnknown("The image has an empty frame_id; name the camera's frame in the driver.")
            child, child_to_map = self._tree.map_to_tree(view.camera, view.camera_to_map, view.stamp_ns)
        except TransformUnknown as reason:
            self._tf_state, self._tf_is_missing = str(reason), True
            self._node.get_logger().warning(self._tf_state, throttle_duration_sec=10.0)
            return
        self._tf_state = f"{self._settings.map_frame} -> {child}"
        transform = poses.transform_message(view.stamp, self._settings.map_frame, child, child_to_map)
        self._send(self._tf_publisher, TFMessage(transforms=[transform]))

    def _window_message(self, result: WindowResult, outputs: list[ViewOutputs]) -> DepthWindow:
        return DepthWindow(
            header=Header(stamp=outputs[-1].stamp, frame_id=self._settings.map_frame),
            model=self._model,
            views=[each.depth_view() for each in outputs],
            scale_m_per_unit=result.scale_m_per_unit,
            scale_source=SCALE_SOURCES[result.scale_source],
            alignment_residual=result.alignment_residual,
            map_segment=result.segment,
            inference_s=result.inference_s,
        )
