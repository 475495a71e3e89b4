# SPDX-License-Identifier: Apache-2.0
"""The images of one camera, or of the cameras of a rig that were taken together, go to the buffer, undecoded, with what
is known about the places of their cameras."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from da3_core.ros_data.camera_places import CameraPlaces, told_apart
from da3_core.ros_data.gravity import Gravity
from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.reference_depth import ReferenceDepths
from da3_core.ros_data.stamp_matcher import MOST_WAITING, StampMatcher
from da3_core.ros_data.transform_tree import TransformUnknown
from da3_core.stream.frame import Frame, RigPlace
from da3_ros.callbacks import Guard
from da3_ros.camera_input import CameraImage, CameraInput, CameraState
from da3_ros.gravity_input import GravityInput
from da3_ros.logs import bounded
from da3_ros.qos import OVERRIDABLE
from da3_ros.reference_input import ReferenceInput
from da3_ros.settings import Settings
from da3_ros.window_buffer import Arrival, WindowBuffer

LOOK_S = 0.005  # how often images that wait for the places of their cameras are looked at
ODOMETRY_DEPTH = 100

Reference = Callable[[Frame], "np.ndarray | None"]
FrameSet = tuple[CameraImage, ...]  # of the cameras in their order


@dataclass(frozen=True)
class InputState:
    """What is known about the input.

    Attributes:
        cameras: by themselves.
        without_pose: how many images were used without a pose though poses are asked for.
        missing: what is not known about the places of the cameras of the newest images, or None.
        absent: cameras of the rig that send nothing, without which it goes on.
    """

    cameras: Sequence[CameraState]
    without_pose: int = 0
    missing: str | None = None
    absent: Sequence[str] = ()


class ImageInput:
    """The subscriptions of all cameras and of odometry, from construction to `close`.

    Args:
        places: what /tf and odometry say about cameras.
    """

    def __init__(
        self, node: Node, settings: Settings, buffer: WindowBuffer, guard: Guard, places: CameraPlaces
    ) -> None:
        self._node, self._settings, self._buffer, self._places = node, settings, buffer, places
        self._logger = node.get_logger()
        self._waiting: deque[tuple[float, FrameSet]] = deque()  # and when it is used as it is
        self._without_pose = 0
        self._missing: str | None = None
        self._start_s = time.monotonic()
        group = MutuallyExclusiveCallbackGroup()  # of all that comes in, so that nothing here needs a lock
        self._names = settings.camera_names or ("",)
        self._last_s = dict.fromkeys(self._names, self._start_s)
        self._match(self._names)
        self.cameras = [CameraInput(node, settings, buffer, guard, self._take_in, name, group) for name in self._names]
        self._timer = node.create_timer(
            LOOK_S, guard(self._look), callback_group=group, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()
        self._inputs: list[ReferenceInput | GravityInput] = []
        self._reference = self._gravity = None
        if settings.scale.source == "depth_topic":
            self._reference = ReferenceDepths(places, settings.scale.reference_slop_s, self._warn)
            self._inputs.append(ReferenceInput(node, settings.scale.reference_type, self._reference, guard, group))
        if settings.map.up in ("imu", "tf"):
            self._gravity = Gravity(settings.map.up == "imu", places, self._warn)
        if self._gravity and settings.map.up == "imu":
            self._inputs.append(GravityInput(node, self._gravity, guard, group))
        self._odometry = None
        if settings.pose_source == "odom_topic":
            qos = QoSProfile(depth=ODOMETRY_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
            self._odometry = node.create_subscription(
                *(Odometry, "odom", guard(places.add_odometry), qos),
                qos_overriding_options=OVERRIDABLE,
            )

    @property
    def topics(self) -> str:
        return ", ".join(camera.topic for camera in self.cameras)

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._settings = settings
        for camera in self.cameras:
            camera.apply(settings)

    def close(self) -> None:
        self._node.destroy_timer(self._timer)
        for camera in self.cameras:
            camera.close()
        for each in self._inputs:
            each.close()
        if self._odometry:
            self._node.destroy_subscription(self._odometry)

    def report(self, refusal: RefusedMessage) -> None:
        """Log a refusal, once per kind."""
        self.cameras[0].report(refusal)

    def watch(self) -> None:
        """Log what is waited for, once per silence."""
        for camera in self.cameras:
            camera.watch()

    def state(self) -> InputState:
        absent = [name for name in self._names if name not in self._matched]
        return InputState([each.state() for each in self.cameras], self._without_pose, self._missing, absent)

    def _take_in(self, image: CameraImage) -> None:
        """Of the frame set that it completes, wait for the places of the cameras."""
        now_s, patience_s = time.monotonic(), self._settings.watchdog_s
        if now_s - max(self._last_s.values()) > patience_s:
            self._last_s = dict.fromkeys(self._names, now_s)  # none was missing: all of them were silent
        self._last_s[image.name] = now_s
        present = [name for name in self._names if now_s - self._last_s[name] <= patience_s]
        if tuple(present) != self._matched:
            self._tell_absent(present)
            self._match(present)
        unmatched = self._matcher.unmatched
        for frame_set in self._matcher.put(self._matched.index(image.name), image):
            if len(self._waiting) >= max(MOST_WAITING, self._settings.every_frame * self._settings.queue.max_frames):
                self._buffer.skip("too many wait for poses")
            else:
                self._waiting.append((now_s + self._settings.tf.timeout_s, frame_set))
        for _ in range(self._matcher.unmatched - unmatched):
            self._buffer.skip("no image of another camera")
        self._look()

    def _match(self, names: Sequence[str]) -> None:
        self._matched = tuple(names)
        self._matcher: StampMatcher[CameraImage] = StampMatcher(len(names), round(self._settings.sync.slop_s * 1e9))

    def _tell_absent(self, present: Sequence[str]) -> None:
        if absent := [name for name in self._names if name not in present]:
            self._logger.warning(
                f"No images of {', '.join(absent)} for {self._settings.watchdog_s:g} s: the rig goes on with "
                f"{', '.join(present)}, in a new map."
            )
        else:
            self._logger.info("All cameras of the rig send images again, for a new map.")

    def _look(self) -> None:
        """Let those go whose cameras are known, and those that have waited long enough, in the order they came in."""
        while self._waiting and (time.monotonic() >= self._waiting[0][0] or self._is_known(self._waiting[0][1])):
            self._put(self._waiting.popleft()[1])
        if not self._waiting:
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _is_known(self, images: FrameSet) -> bool:
        if self._reference and self._reference.is_waited_for(images[0].stamp_ns):
            return False
        if not self._places.has_poses and time.monotonic() > self._start_s + self._settings.tf.timeout_s:
            return True  # what /tf_static has not said by now it does not say
        return self._places.are_known([image.camera_frame for image in images], images[0].stamp_ns)

    def _put(self, images: FrameSet) -> None:
        stamp_ns, names = images[0].stamp_ns, tuple(image.name for image in images)
        frames = [image.camera_frame for image in images]
        try:
            if len(sizes := {image.size_hw for image in images}) > 1:
                raise RefusedMessage("rig_size", f"The cameras of a rig must send images of one size, not {sizes}.")
            poses = [self._world_to_camera(image) for image in images]
            stereo = [image.stereo_place for image in images]
            in_rig = self._places.in_rig(frames, stamp_ns, stereo)
            if self._places.misses_rig(frames, in_rig):
                self._missing = f"/tf_static does not tie {', '.join(frames)} together: the model says how they stand"
            elif not self._places.has_poses:
                self._missing = None

            ups = [self._gravity.of(image.camera_frame, stamp_ns) if self._gravity else None for image in images]
            seen = [self._reference_of(image) for image in images]

            def decode() -> tuple[Frame, ...]:
                places: Sequence[RigPlace | None] = in_rig or [None] * len(images)
                parts = zip(images, poses, places, ups, seen, strict=True)
                return told_apart([_frame(*each) for each in parts], names, stereo)

            session_break = self._buffer.put(Arrival(stamp_ns, "\n".join(frames), images[0].size_hw, decode, names))
        except RefusedMessage as refusal:
            self._buffer.refuse(refusal.kind)
            self.report(refusal)
            return
        if session_break == "camera":
            self.cameras[0].tell_frame_id(frames)
        if session_break:
            self._logger.info(f"A new map starts ({session_break}).", throttle_duration_sec=5.0)

    def _reference_of(self, image: CameraImage) -> Reference:
        """What is known of its depth, to be asked when it is decoded."""
        message = self._reference.nearest(image.stamp_ns) if self._reference else None
        if self._reference is None or message is None:
            return lambda frame: None
        return partial(self._reference.depth_of, message)

    def _warn(self, text: str) -> None:
        self._logger.warning(bounded(text), throttle_duration_sec=10.0)

    def _world_to_camera(self, image: CameraImage) -> np.ndarray | None:
        """Raises RefusedMessage where it is not known and required."""
        try:
            pose = self._places.world_to_camera(image.camera_frame, image.stamp_ns)
        except TransformUnknown as reason:
            if self._settings.pose_required:
                raise RefusedMessage("pose", str(reason)) from reason
            self._without_pose += 1
            if self._missing is None:
                self._logger.warning(bounded(f"Images are used without a pose: {reason}"), throttle_duration_sec=10.0)
            self._missing = str(reason)
            return None
        if pose is not None:
            self._missing = None
        return pose


def _frame(
    image: CameraImage,
    world_to_camera: np.ndarray | None,
    place: RigPlace | None,
    up: np.ndarray | None,
    reference: Reference,
) -> Frame:
    frame = replace(image.decode(), world_to_camera=world_to_camera, rig=place, up=up)
    return replace(frame, reference_depth=reference(frame))
