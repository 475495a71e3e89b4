# SPDX-License-Identifier: Apache-2.0
"""What a session says about recorded images, as the messages of the live node, in the classes of `rosbags`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from da3_core.bag.options import BagOptions
from da3_core.bag.topics import NODE
from da3_core.bag.windows import RecordedFrame, RecordedWindow
from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.ros_data.conventions import camera_pose_in_map
from da3_core.ros_data.maps import MapCount
from da3_core.ros_data.outputs import (
    CAMERA_OUTPUTS,
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
from da3_core.ros_data.values import packed
from da3_core.storage.files import package_file
from da3_core.stream.session import View, WindowResult

OWN_MESSAGES = ("DepthView", "DepthWindow", "MapInfo")


def topics_of(cameras: Iterable[str]) -> dict[str, str]:
    """The type of every topic; the name of a single camera is empty."""
    of_a_camera: tuple[Output[Any], ...] = (*VIEW_OUTPUTS, *CAMERA_OUTPUTS)
    of_cameras = {
        each.topic(NODE, camera): each.type for camera in cameras for each in of_a_camera if not each.live_only
    }
    return {**of_cameras, **{each.topic(NODE): each.type for each in WINDOW_OUTPUTS if not each.live_only}}


def typestore() -> Any:
    """The message types of ROS 2 and of this package.

    Raises:
        InputError: this package's definitions are nowhere.
    """
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.LATEST)
    for name in OWN_MESSAGES:
        path: Path | None = package_file(f"msg/{name}.msg")
        if path is None:
            raise InputError(f"msg/{name}.msg of this package is missing: install it again")
        store.register(get_types_from_msg(path.read_text(), f"da3_ros/msg/{name}"))
    return store


class MessageMaker:
    """Results to `(topic, image they are about, message)`; it keeps the trajectories of the map.

    Args:
        store: what `typestore` returned.
        model: the model's name as given.
    """

    def __init__(self, store: Any, model: str, options: BagOptions) -> None:
        self._types, self._model = store.types, model
        self._options = OutputOptions(
            map_frame=options.map_frame,
            confidence_floor=options.confidence_floor,
            points=options.points,
            windows=options.window_messages,
            transforms=True,
        )
        self._path_poses = options.path_poses
        self._paths: dict[str, Trajectory] = {}
        self._maps = MapCount()
        self._told: tuple[object, ...] = ()

    def of(self, result: WindowResult, window: RecordedWindow) -> Iterator[tuple[str, RecordedFrame, Any]]:
        """Every topic of every new view, then the paths and the window."""
        before = self._maps.present
        result = self._maps.take_in(result, window.session, window.reason)
        if self._maps.present is not before:
            self._paths.clear()
        for path in self._paths.values():
            path.correct(result)
        views = self._view_outputs(result, window)
        for recorded, outputs in views.items():
            if not outputs.view.is_new:
                continue
            yield from self._messages(VIEW_OUTPUTS, outputs, recorded, recorded.camera)
            self._path(recorded.camera).add(outputs.view)
        for recorded in window.frame_sets[-1]:
            camera = CameraOutputs(views[recorded], self._path(recorded.camera))
            yield from self._messages(CAMERA_OUTPUTS, camera, recorded, recorded.camera)
        whole = WindowOutputs(tuple(views.values()), self._model, self._maps.present)
        if whole.facts == self._told:
            whole = replace(whole, map=None)
        self._told = whole.facts
        yield from self._messages(WINDOW_OUTPUTS, whole, window.recorded[-1], "")

    def settled(self, result: WindowResult, window: RecordedWindow) -> Iterator[tuple[str, RecordedFrame, Any]]:
        """The paths once more, after the last window of a session, as `Session.settle` corrected them."""
        for path in self._paths.values():
            path.correct(result)
        views = self._view_outputs(result, window)
        for recorded in window.frame_sets[-1]:
            camera = CameraOutputs(views[recorded], self._path(recorded.camera))
            yield from self._messages(CAMERA_OUTPUTS, camera, recorded, recorded.camera)

    def _path(self, camera: str) -> Trajectory:
        if camera not in self._paths:
            frame, types = self._options.map_frame, self._types
            self._paths[camera] = Trajectory(frame, self._path_poses, lambda value: packed(value, types))
        return self._paths[camera]

    def _view_outputs(self, result: WindowResult, window: RecordedWindow) -> dict[RecordedFrame, ViewOutputs]:
        """In the order of the window. Of cameras in one tree, the first of a frame set says where that is."""
        outputs, views = {}, {view.frame: view for view in result.views}
        for frame_set in window.frame_sets:
            roots: set[str] = set()
            for recorded in frame_set:
                view = views[recorded.frame]
                edge = None if recorded.root in roots else _edge(view, recorded)
                roots |= {edge.child} if edge else set()
                outputs[recorded] = ViewOutputs(view, result, self._options, edge)
        return outputs

    def _messages(
        self, topics: Iterable[Output[Source]], source: Source, recorded: RecordedFrame, camera: str
    ) -> Iterator[tuple[str, RecordedFrame, Any]]:
        for each in topics:
            value = each.value(source) if each.chosen(self._options) else None
            if value:
                yield each.topic(NODE, camera), recorded, packed(value, self._types)


def _edge(view: View, recorded: RecordedFrame) -> MapEdge | None:
    """The map to the root of the tree that the camera is in."""
    if view.world_to_camera is None or recorded.root is None:
        return None
    assert recorded.camera_to_root is not None
    root_to_map = camera_pose_in_map(view.world_to_camera) @ invert_rigid(recorded.camera_to_root)
    return MapEdge(recorded.root, root_to_map, view.frame.stamp_ns)
