# SPDX-License-Identifier: Apache-2.0
"""Where cameras are, by what ROS says of them: poses in the odometry frame, and places in a rig. Live and in bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.ros_data.conventions import world_to_camera_in_map
from da3_core.ros_data.transform_tree import TransformTree, TransformUnknown
from da3_core.stream.frame import Frame, RigPlace

LivePoseSource = Literal["auto", "none", "tf", "odom_topic", "rig"]
NEAREST_M = 1e-4  # of two cameras that are not one


class CameraPlaces:
    """The places of cameras in a tree of transforms.

    Attributes:
        odom_frame: the frame that poses are taken in; of `odom_topic` that of its messages.

    Args:
        tree: of /tf and /tf_static; of `odom_topic` one of its own.
    """

    def __init__(self, tree: TransformTree, source: LivePoseSource, odom_frame: str) -> None:
        self._tree, self._source, self.odom_frame = tree, source, odom_frame

    @property
    def has_poses(self) -> bool:
        """Whether cameras are to be placed in the odometry frame."""
        return self._source in ("tf", "odom_topic")

    def add_odometry(self, odometry: Any) -> None:
        """Take in an `Odometry`, whose frame becomes the odometry frame."""
        self._tree.add_odometry(odometry)
        self.odom_frame = odometry.header.frame_id

    def are_known(self, camera_frames: Sequence[str], stamp_ns: int) -> bool:
        """Whether nothing that is still to come can say more about cameras at that time."""
        if self.has_poses:
            return all(self._tree.brackets(frame, self.odom_frame, stamp_ns) for frame in camera_frames)
        return not self._wants_rig(camera_frames) or self._on_one_body(camera_frames) is not None

    def world_to_camera(self, camera_frame: str, stamp_ns: int) -> np.ndarray | None:
        """In the map, which lies where the odometry frame is; None where poses are not asked for.

        Raises:
            TransformUnknown: it is not known.
        """
        if not self.has_poses:
            return None
        return world_to_camera_in_map(self._tree.pose_in(camera_frame, self.odom_frame, stamp_ns))

    def between(self, frame: str, stamp_ns: int, camera_frame: str, camera_stamp_ns: int) -> np.ndarray:
        """`(4, 4)` from a frame at one time to a camera at another, by the tree that both are in.

        Raises:
            TransformUnknown: an edge on the way is not known at its time, or they are in two trees.
        """
        if frame.lstrip("/") == camera_frame.lstrip("/"):
            return np.eye(4)
        root, to_root = self._tree.frame_to_root(frame, stamp_ns)
        camera_root, camera_to_root = self._tree.frame_to_root(camera_frame, camera_stamp_ns)
        if root != camera_root:
            raise TransformUnknown(f"The frames {frame} and {camera_frame} are not in one tree of transforms.")
        return np.asarray(invert_rigid(camera_to_root) @ to_root)

    def up(self, camera_frame: str, stamp_ns: int) -> np.ndarray:
        """`(3,)` up of the odometry frame, in the camera's optical axes.

        Raises:
            TransformUnknown: the camera is not known in it.
        """
        return np.asarray(self._tree.pose_in(camera_frame, self.odom_frame, stamp_ns)[2, :3])

    def in_rig(
        self, camera_frames: Sequence[str], frame_set_ns: int, stereo: Sequence[np.ndarray | None]
    ) -> list[RigPlace] | None:
        """By /tf_static, where it ties all cameras to one body in frames of their own, else as a stereo pair.

        None where this is not asked for, or neither is known: see `misses_rig`.

        Args:
            stereo: what CameraInfo says, see `stereo_place`.
        """
        if not self._wants_rig(camera_frames):
            return None
        if (on_body := self._on_one_body(camera_frames)) is not None:
            return [RigPlace(camera_to_body, frame_set_ns) for camera_to_body in on_body]
        places = [place for place in stereo if place is not None]
        if len(places) == len(camera_frames) and are_apart(places):
            return [RigPlace(camera_to_first, frame_set_ns) for camera_to_first in places]
        return None

    def misses_rig(self, camera_frames: Sequence[str], found: list[RigPlace] | None) -> bool:
        """Whether places were wanted and not found."""
        return found is None and self._wants_rig(camera_frames)

    def _wants_rig(self, camera_frames: Sequence[str]) -> bool:
        return len(camera_frames) > 1 and self._source in ("auto", "rig")

    def _on_one_body(self, camera_frames: Sequence[str]) -> list[np.ndarray] | None:
        bodies = [self._tree.body(frame) for frame in camera_frames]
        is_one = len({body for body, _ in bodies}) == 1 and len(set(camera_frames)) == len(camera_frames)
        return [camera_to_body for _, camera_to_body in bodies] if is_one else None


def are_apart(camera_to_rig: Sequence[np.ndarray]) -> bool:
    """Whether cameras are in places of their own."""
    positions = np.stack([place[:3, 3] for place in camera_to_rig])
    first, second = np.triu_indices(len(positions), 1)
    return bool((np.linalg.norm(positions[first] - positions[second], axis=1) > NEAREST_M).all())


def told_apart(frames: Sequence[Frame], names: Sequence[str], stereo: Sequence[np.ndarray | None]) -> tuple[Frame, ...]:
    """Cameras of one frame id, by their names. Its pose is that of the first; the others stand as CameraInfo says."""
    first_of = {frame.camera: i for i, frame in reversed(list(enumerate(frames)))}
    if len(first_of) == len(frames):
        return tuple(frames)
    result = []
    for i, (frame, name) in enumerate(zip(frames, names, strict=True)):
        first, pose = first_of[frame.camera], frame.world_to_camera
        if first != i and pose is not None:
            pose = _beside(pose, stereo[first], stereo[i])
        result.append(replace(frame, world_to_camera=pose, source=f"{frame.camera}_{name}"))
    return tuple(result)


def _beside(world_to_first: np.ndarray, first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """World-to-camera of the second of two cameras by their places in a stereo pair; None where these are not known."""
    if first is None or second is None or not are_apart([first, second]):
        return None
    return np.asarray(invert_rigid(second) @ first @ world_to_first)
