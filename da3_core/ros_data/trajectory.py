# SPDX-License-Identifier: Apache-2.0
"""The poses that a path holds: those of a map's views, oldest first, where they are by all that has been seen since."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.ros_data import values
from da3_core.ros_data.conventions import camera_pose_in_map
from da3_core.ros_data.values import MessageValue
from da3_core.stream.session import View, WindowResult


@dataclass(frozen=True, eq=False)
class _Pose:
    stamp_ns: int
    world_to_camera: np.ndarray
    packed: Any = None  # the message, made when it is asked for


class Trajectory:
    """Poses of the newest views, at most `most_poses`.

    Args:
        pack: makes messages of values.
    """

    def __init__(self, map_frame: str, most_poses: int, pack: Callable[[MessageValue], Any]) -> None:
        self._map_frame, self._most_poses, self._pack = map_frame, most_poses, pack
        self._poses: dict[int, _Pose] = {}  # by the number of the view

    def limit(self, most_poses: int) -> None:
        self._most_poses = most_poses
        self._forget()

    def clear(self) -> None:
        self._poses.clear()

    def add(self, view: View) -> None:
        """One more, if it has a pose."""
        if view.world_to_camera is not None:
            self._poses[view.number] = _Pose(view.frame.stamp_ns, view.world_to_camera)
            self._forget()

    def correct(self, result: WindowResult) -> None:
        """What a result says about earlier views too."""
        if result.bend:
            for number, pose in self._poses.items():
                camera_to_map, _ = result.bend(number, invert_rigid(pose.world_to_camera))
                self._poses[number] = _Pose(pose.stamp_ns, invert_rigid(camera_to_map))
        for each in result.corrected:
            if each.number in self._poses:
                self._poses[each.number] = _Pose(each.stamp_ns, each.world_to_camera)

    def messages(self) -> list[Any]:
        """A PoseStamped of each."""
        for number, pose in self._poses.items():
            if pose.packed is None:
                header = values.header(pose.stamp_ns, self._map_frame)
                value = values.pose_stamped(header, camera_pose_in_map(pose.world_to_camera))
                self._poses[number] = replace(pose, packed=self._pack(value))
        return [pose.packed for pose in self._poses.values()]

    def _forget(self) -> None:
        for number in list(islice(self._poses, max(0, len(self._poses) - self._most_poses))):
            del self._poses[number]
