# SPDX-License-Identifier: Apache-2.0
"""What /tf and /tf_static of a bag say about its cameras: the tree they are in, their poses, how a rig is mounted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from da3_core.bag.options import BagOptions
from da3_core.bag.read import BagMessage, BagReader
from da3_core.errors import InputError, OptionError
from da3_core.ros_data.camera_places import CameraPlaces
from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.transform_tree import TransformTree, TransformUnknown
from da3_core.stream.frame import RigPlace

SEARCHED = 1000  # transforms, for the frame that poses are wanted in, before any image is inferred
BEFORE_NS = 2_000_000_000  # how long before the start of the part that is processed transforms are read


class RecordedTransforms:
    """The transforms of a bag as far as it has been read.

    Attributes:
        places: of cameras, by what has been read.
        without_pose: how many images had no pose though poses were asked for.

    Args:
        tell: given a kind and a text, logs the first of every kind.
    """

    def __init__(self, bag: BagReader, options: BagOptions, tell: Callable[[str, str], None]) -> None:
        """Raises InputError where poses are asked for in a frame that the bag does not know."""
        self._bag, self._options, self._tell = bag, options, tell
        self.without_pose = 0
        self._begin()
        if options.pose_source == "tf":
            self._check_odom_frame()

    def add(self, message: BagMessage) -> None:
        """Take in a message of /tf or /tf_static."""
        try:
            self._tree.add(self._bag.decode(message).transforms, message.topic == "/tf_static")
        except InputError as error:
            self._tell("transforms", str(error))

    def add_before(self, start_ns: int) -> None:
        """Take in those of /tf that lie just before a time in the bag."""
        for message in self._bag.messages(["/tf"], start_ns - BEFORE_NS, start_ns):
            self.add(message)

    def world_to_camera(self, camera_frame: str, stamp_ns: int) -> np.ndarray | None:
        """In the map; None where poses are not asked for or not known.

        Raises:
            RefusedMessage: it is not known and required.
        """
        try:
            return self.places.world_to_camera(camera_frame, stamp_ns)
        except TransformUnknown as reason:
            if self._options.pose_required:
                raise RefusedMessage("pose", str(reason)) from reason
            self.without_pose += 1
            self._tell("pose", f"images are used without a pose, the first because: {reason}")
            return None

    def rig_places(
        self, camera_frames: Sequence[str], frame_set_ns: int, stereo: Sequence[np.ndarray | None]
    ) -> list[RigPlace | None]:
        """By /tf_static, where it ties all cameras to one body in frames of their own, else as a stereo pair.

        Args:
            stereo: what CameraInfo says, see `stereo_place`.

        Raises:
            InputError: neither is known, and places in a rig are asked for.
        """
        places = self.places.in_rig(camera_frames, frame_set_ns, stereo)
        if places is not None:
            return [*places]
        if not self.places.misses_rig(camera_frames, places):
            return [None] * len(camera_frames)
        names = ", ".join(camera_frames)
        if self._options.pose_source == "rig":
            raise OptionError(
                "/tf_static of the bag does not tie the cameras {names} together, nor has their CameraInfo a baseline: "
                "leave {pose_source} out",
                names=names,
            )
        self._tell("rig", f"/tf_static does not tie {names} together: the model says how the cameras stand")
        return [None] * len(camera_frames)

    def root(self, camera_frame: str, stamp_ns: int) -> tuple[str | None, np.ndarray | None]:
        """The root of the tree that the camera is in, and the camera's pose in it; None twice where it is unknown."""
        try:
            if not camera_frame:
                raise TransformUnknown("The images have an empty frame_id.")
            root, camera_to_root = self._tree.frame_to_root(camera_frame, stamp_ns)
            if root == self._options.map_frame:
                raise TransformUnknown(f"{camera_frame} is below {root} in /tf_static: choose another map_frame.")
        except TransformUnknown as reason:
            self._tell("transform", f"images without a transform in /tf, the first because: {reason}")
            return None, None
        return root, camera_to_root

    def _begin(self) -> None:
        options = self._options
        self._tree = TransformTree(options.map_frame, options.max_extrapolation_s)
        self.places = CameraPlaces(self._tree, options.pose_source, options.odom_frame)

    def _check_odom_frame(self) -> None:
        """Refuse, before hours of work, a frame that the transforms do not know."""
        for message in [*self._bag.messages(["/tf_static"]), *islice(self._bag.messages(["/tf"]), SEARCHED)]:
            self.add(message)
        frames, odom_frame = self._tree.frames(), self._options.odom_frame
        if odom_frame.lstrip("/") not in frames:
            raise OptionError(
                "{pose_source} tf takes poses in the frame {given!r}, which no transform at the start of the bag is "
                "about; it has {frames}: name another {odom_frame}",
                given=odom_frame,
                frames=", ".join(sorted(frames)) or "none",
            )
        self._begin()
