# SPDX-License-Identifier: Apache-2.0
"""A window's result becomes topics and transforms. What nobody subscribes to is not computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile

from da3_core.geometry.voxel_map import Voxels
from da3_core.ros_data.conventions import camera_pose_in_map
from da3_core.ros_data.map_points import MapPoints
from da3_core.ros_data.maps import MapState
from da3_core.ros_data.outputs import (
    CAMERA_OUTPUTS,
    TRANSFORM,
    VIEW_OUTPUTS,
    WINDOW_OUTPUTS,
    CameraOutputs,
    MapEdge,
    Output,
    OutputOptions,
    Source,
    ViewOutputs,
    WindowOutputs,
)
from da3_core.ros_data.trajectory import Trajectory
from da3_core.ros_data.transform_tree import TransformTree, TransformUnknown
from da3_core.stream.frame import Frame
from da3_core.stream.session import View, WindowResult
from da3_ros.messages import message_class, packed
from da3_ros.qos import OVERRIDABLE
from da3_ros.settings import Settings

IN_METRES = ("odometry", "depth/image", "depth/image_raw", "scan")  # what ROS defines in metres (REP 103, 118)


def output_options(settings: Settings) -> OutputOptions:
    """What the parameters say about outputs."""
    return OutputOptions(
        map_frame=settings.map_frame,
        confidence_floor=settings.depth.confidence_floor,
        points=settings.points,
        windows=True,
        transforms=settings.tf.mode != "none",
        compressed=True,
        at_camera_size=settings.depth.size == "camera",
        base_frame=settings.base_frame,
        scan=settings.scan,
        crop=settings.crop if settings.crop.is_active else None,
        map_points=settings.map_points if settings.map_points.rate_hz > 0 else None,
    )


@dataclass(frozen=True)
class OutputState:
    """What has become of publications.

    Attributes:
        failures: publications that the middleware refused, by topic.
        transform: what became of the last transform, in words.
        transform_is_missing: there was a pose and no transform could be published.
        map: the one that the last result is in.
        measured: topics with subscribers who will take the numbers for metres.
        baseless: why the place of the camera in the robot is unknown, where somebody asks for what needs it.
    """

    failures: Mapping[str, int]
    transform: str
    transform_is_missing: bool
    map: MapState | None = None
    measured: Sequence[str] = ()
    baseless: str = ""


class Publisher(Protocol):
    """One of rclpy, or what is as simple."""

    @property
    def topic_name(self) -> str: ...

    def get_subscription_count(self) -> int: ...

    def publish(self, msg: Any) -> None:
        """Raises RuntimeError when the middleware takes no more."""


def open_publishers(node: LifecycleNode, settings: Settings) -> dict[str, LifecyclePublisher[Any]]:
    """The publishers of all chosen outputs, by their names, those of the cameras of a rig below its name."""
    of_cameras: tuple[Output[Any], ...] = (*VIEW_OUTPUTS, *CAMERA_OUTPUTS)
    outputs = {key(each, name): (each, name) for name in settings.camera_names or ("",) for each in of_cameras}
    outputs |= {each.name: (each, "") for each in WINDOW_OUTPUTS}
    return {
        place: node.create_lifecycle_publisher(
            message_class(each.type),
            each.topic("~", name),
            _qos(each, settings),
            qos_overriding_options=OVERRIDABLE,
        )
        for place, (each, name) in outputs.items()
        if each.chosen(output_options(settings))
    }


def key(output: Output[Any], camera: str) -> str:
    """Of a publisher: the name of the output, below that of the camera of a rig."""
    return output.topic("", camera)


def _qos(output: Output[Any], settings: Settings) -> QoSProfile:
    durability = DurabilityPolicy.TRANSIENT_LOCAL if output.latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=output.qos_depth or settings.qos.depth, durability=durability)


def close_publishers(node: LifecycleNode, publishers: Mapping[str, LifecyclePublisher[Any]]) -> None:
    for publisher in publishers.values():
        node.destroy_lifecycle_publisher(publisher)


class Publications:
    """What is published of results.

    Args:
        publishers: by `key`.
        warn: told why a transform cannot be published, again and again.
        model: its name in messages.
    """

    def __init__(
        self,
        publishers: Mapping[str, Publisher],
        warn: Callable[[str], object],
        settings: Settings,
        tree: TransformTree,
        model: str,
    ) -> None:
        self._publishers, self._warn, self._tree, self._model = publishers, warn, tree, model
        self._map: MapState | None = None
        self._told: tuple[object, ...] = ()
        self._paths: dict[str, Trajectory] = {}
        self._map_points = MapPoints(settings.map_points) if "map_points" in publishers else None
        self._takes_in = self._always = settings.map_points.always
        self._failures: Counter[str] = Counter()
        self._tf_state = "no pose yet"
        self._tf_is_missing = False
        self._baseless = ""
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._options = output_options(settings)
        self._path_poses = settings.path.max_poses
        self._tf, self._odom_frame = settings.tf, settings.odom_frame
        for path in self._paths.values():
            path.limit(settings.path.max_poses)

    def state(self) -> OutputState:
        in_metres = [each for of in IN_METRES for name, each in self._publishers.items() if name.endswith(of)]
        measured = [each.topic_name for each in in_metres if each.get_subscription_count()]
        return OutputState(
            dict(self._failures), self._tf_state, self._tf_is_missing, self._map, measured, self._baseless
        )

    def reset(self) -> None:
        """Forget the trajectories and the cloud of the map."""
        self._paths.clear()
        if self._map_points:
            self._map_points.clear()

    def publish(self, result: WindowResult, present: MapState, frame_sets: Sequence[Mapping[Frame, str]] = ()) -> None:
        """Every new view of a result, which is in the map `present`, then the paths and the window.

        Args:
            frame_sets: its frames that were taken together, with the names of their cameras; none of a single camera.
        """
        if present != self._map:
            self._map = present
            self.reset()
        names = {frame: name for frame_set in frame_sets for frame, name in frame_set.items()}
        edges = self._edges(result, frame_sets)
        views = [
            ViewOutputs(view, result, self._options, edges.get(view.frame), self._camera_to_base(view))
            if view.is_new
            else ViewOutputs(view, result, self._options)
            for view in result.views
        ]
        for path in self._paths.values():
            path.correct(result)
        newest: dict[str, ViewOutputs] = {}
        for each in views:
            name = names.get(each.view.frame, "")
            newest[name] = each
            if each.view.is_new:
                self._publish(VIEW_OUTPUTS, each, name)
                self._path(name).add(each.view)
        for name, each in newest.items():
            self._publish(CAMERA_OUTPUTS, CameraOutputs(each, self._path(name)), name)
        window = WindowOutputs(views, self._model, present, self._voxels(views))
        self._publish(WINDOW_OUTPUTS, replace(window, map=None) if window.facts == self._told else window)
        self._told = window.facts

    def _path(self, camera: str) -> Trajectory:
        if camera not in self._paths:
            self._paths[camera] = Trajectory(self._options.map_frame, self._path_poses, packed)
        return self._paths[camera]

    def _voxels(self, views: Sequence[ViewOutputs]) -> Voxels | None:
        """The map, where it is time to tell it: from the first listener on, or all the time."""
        if self._map_points is None:
            return None
        is_heard = self._publishers["map_points"].get_subscription_count() > 0
        self._takes_in |= is_heard
        if not self._takes_in:
            return None
        voxels = self._map_points.take_in(views, views[-1].result.bend)
        return voxels if is_heard or self._always else None

    def _publish(self, outputs: Iterable[Output[Source]], source: Source, camera: str = "") -> None:
        for each in outputs:
            publisher = self._publishers.get(key(each, camera))
            if publisher is None or not (each.is_always_sent or publisher.get_subscription_count() > 0):
                continue
            if value := each.value(source):
                self._send(publisher, packed(value))

    def _send(self, publisher: Publisher, message: Any) -> None:
        try:
            publisher.publish(message)
        except RuntimeError:  # RCLError: the middleware is flooded, or the node is shutting down
            self._failures[publisher.topic_name] += 1

    def _edges(self, result: WindowResult, frame_sets: Sequence[Mapping[Frame, str]]) -> dict[Frame, MapEdge]:
        """Of new views. Of cameras in one tree, the first of a frame set says where that is."""
        edges: dict[Frame, MapEdge] = {}
        set_of = {frame: i for i, frame_set in enumerate(frame_sets) for frame in frame_set}
        said: set[tuple[int, str]] = set()
        by_now = {each.number: each.world_to_camera for each in result.corrected} if self._is_localiser else {}
        for i, view in enumerate(result.views):
            edge = self._edge(view, by_now.get(view.number, view.world_to_camera)) if view.is_new else None
            place = (set_of.get(view.frame, -1 - i), edge.child if edge else "")
            if edge and place not in said:
                said.add(place)
                self._tree.note_own(edge.child, edge.stamp_ns, edge.child_to_map)
                edges[view.frame] = edge
        return edges

    @property
    def _is_localiser(self) -> bool:
        return self._tf.mode == "map_to_odom"

    def _edge(self, view: View, world_to_camera: np.ndarray | None) -> MapEdge | None:
        """What joins the map to the camera of a view, which is there by now; `state` tells why there is nothing."""
        self._tf_is_missing = False
        if not TRANSFORM.chosen(self._options) or world_to_camera is None:
            self._tf_state = "no pose" if TRANSFORM.chosen(self._options) else "off"
            return None
        try:
            if not view.frame.camera:
                raise TransformUnknown("The image has an empty frame_id; name the camera's frame in the driver.")
            asked = view.frame.camera, camera_pose_in_map(world_to_camera), view.frame.stamp_ns
            if self._is_localiser:
                ahead_ns = round(self._tf.ahead_s * 1e9)
                edge = MapEdge(*self._tree.map_to_odom(*asked, self._odom_frame), view.frame.stamp_ns + ahead_ns)
            else:
                edge = MapEdge(*self._tree.map_to_tree(*asked), view.frame.stamp_ns)
        except TransformUnknown as reason:
            self._tf_state, self._tf_is_missing = str(reason), True
            self._warn(self._tf_state)
            return None
        self._tf_state = f"{self._options.map_frame} -> {edge.child}"
        return edge

    def _camera_to_base(self, view: View) -> np.ndarray | None:
        """The place of a camera in the robot, where somebody asks for what needs it; `state` tells what is amiss."""
        self._baseless = ""
        scans = [each for name, each in self._publishers.items() if name.endswith("scan")]
        if not (self._options.crop or any(scan.get_subscription_count() for scan in scans)):
            return None
        try:
            return self._tree.pose_in(view.frame.camera, self._options.base_frame, view.frame.stamp_ns)
        except TransformUnknown as reason:
            self._baseless = f"{reason} Publish that transform, or set base_frame."
            self._warn(self._baseless)
            return None
