# SPDX-License-Identifier: Apache-2.0
"""The bag read back, with nothing but the definitions inside it: frames with an estimate, and the truth beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader

from da3_core.prediction import Prediction
from da3_core.ros_data.camera_info import image_camera
from da3_core.ros_data.conventions import compose, stamp_ns, world_to_camera_in_map
from da3_core.ros_data.outputs import SCALE_SOURCES
from da3_core.stream.frame import Frame
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import View, WindowResult
from da3_ros.demo.children import DemoError
from da3_ros.demo.comparison import Comparison, Findings, PosedFrames

SESSION = 0  # the only one: the demo allows for longer gaps than there are


@dataclass(frozen=True)
class BagTopics:
    """Where in the bag is what."""

    window: str
    colour: str
    true_depth: str
    true_pose: str


@dataclass(frozen=True, eq=False)
class Recording:
    """What a bag holds about one run.

    Attributes:
        windows: the DepthWindow messages, in order.
        colour, true_depth, true_pose: messages by stamp in nanoseconds; nothing is true about images.
    """

    windows: list[Any]
    colour: dict[int, Any]
    true_depth: dict[int, Any]
    true_pose: dict[int, Any]

    @classmethod
    def read(cls, bag: Path, topics: BagTopics) -> "Recording":
        """Raises DemoError when the bag holds no window."""
        found: dict[str, list[Any]] = {topic: [] for topic in vars(topics).values()}
        with AnyReader([bag]) as reader:
            connections = [c for c in reader.connections if c.topic in found]
            for connection, _, cdr in reader.messages(connections):
                found[connection.topic].append(reader.deserialize(cdr, connection.msgtype))
        if not found[topics.window]:
            raise DemoError(f"the bag holds no message of {topics.window}.")
        by_stamp = {name: {stamp_ns(m.header.stamp): m for m in found[topic]} for name, topic in vars(topics).items()}
        return cls(found[topics.window], by_stamp["colour"], by_stamp["true_depth"], by_stamp["true_pose"])

    @cached_property
    def record(self) -> SessionRecord:
        """The longest map, of all its frames whose colour was recorded."""
        record, seen = SessionRecord(sum(len(window.views) for window in self.windows), "longest_map"), set()
        for window in self.windows:
            stamps = [stamp_ns(view.header.stamp) for view in window.views]
            views = [
                recorded_view(view, pixels(self.colour[stamp]), is_new=stamp not in seen)
                for stamp, view in zip(stamps, window.views, strict=True)
                if stamp in self.colour
            ]
            seen.update(stamps)
            if views:
                record.add(recorded_result(window, views), SESSION)
        return record

    def views(self) -> list[Any]:
        """The DepthView of every frame once, when all that belongs to it was recorded.

        It is the first that has a place in the longest map, else the first of all, without a place.
        """
        every = [(w.map_segment, stamp_ns(view.header.stamp), view) for w in self.windows for view in w.views]
        chosen: dict[int, Any] = {}
        for segment, stamp, view in every:
            if (SESSION, segment) == self.record.map and has_pose(view):
                chosen.setdefault(stamp, view)
        for _, stamp, view in every:
            chosen.setdefault(stamp, without_pose(view))
        complete = set(self.colour)
        if self.true_pose:
            complete = complete & self.true_depth.keys() & self.true_pose.keys()
        return [view for stamp, view in sorted(chosen.items()) if stamp in complete]

    def estimate(self) -> PosedFrames:
        """The frames as the node saw them, in its map and unit."""
        views = self.views()
        return PosedFrames(
            colour=np.stack([pixels(self.colour[stamp_ns(view.header.stamp)]) for view in views]),
            depth=np.stack([pixels(view.depth) for view in views]),
            intrinsics=np.stack([intrinsics(view) for view in views]),
            camera_to_world=np.stack([pose_matrix(view.camera_in_map) for view in views]),
        )

    def findings(self) -> Findings:
        """The estimate alone or, where the truth was recorded, a `Comparison`: true depth at the estimate's pixels."""
        views, estimate = self.views(), self.estimate()
        stamps = [stamp_ns(view.header.stamp) for view in views]
        confidence, seconds = (
            np.stack([pixels(view.confidence) for view in views]),
            (np.array(stamps) - stamps[0]) * 1e-9,
        )
        if not self.true_pose:
            return Findings(estimate, confidence, seconds)
        height, width = estimate.depth.shape[1:]
        true_depth = [
            cv2.resize(pixels(self.true_depth[stamp]), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            for stamp in stamps
        ]
        poses = np.stack([pose_matrix(self.true_pose[stamp].pose) for stamp in stamps])
        truth = PosedFrames(estimate.colour, np.stack(true_depth), estimate.intrinsics, poses)
        return Comparison.of(truth, estimate, confidence, seconds)

    def prediction(self) -> Prediction | None:
        """The placed frames as one prediction, for the exporters; None without any."""
        prediction = self.record.prediction()
        return None if prediction.extrinsics is None else prediction


def recorded_result(window: Any, views: Sequence[View]) -> WindowResult:
    """What the session said, from a DepthWindow; the placement is not in there."""
    has_places = any(view.world_to_camera is not None for view in views)
    return WindowResult(
        views=tuple(views),
        placement="points" if has_places else "unposed",
        scale_m_per_unit=window.scale_m_per_unit,
        scale_source=next(name for name, number in SCALE_SOURCES.items() if number == window.scale_source),
        alignment_residual=window.alignment_residual,
        segment=window.map_segment,
        inference_s=window.inference_s,
    )


def recorded_view(view: Any, colour: np.ndarray, *, is_new: bool) -> View:
    """The same from a DepthView and the image that the node published with it, `(H, W, 3)` uint8."""
    depth = pixels(view.depth)
    return View(
        frame=Frame(colour, stamp_ns(view.header.stamp), view.header.frame_id),
        number=stamp_ns(view.header.stamp),
        is_new=is_new,
        image=colour,
        depth=depth,
        confidence=pixels(view.confidence) if len(view.confidence.data) else None,
        sky=np.isposinf(depth),
        intrinsics=intrinsics(view),
        world_to_camera=world_to_camera_in_map(pose_matrix(view.camera_in_map)) if has_pose(view) else None,
        processed_from_original=None,
    )


def pixels(image: Any) -> np.ndarray:
    """`(H, W)` float32 of a 32FC1 image, `(H, W, 3)` uint8 of an rgb8 one."""
    if image.encoding == "32FC1":
        return np.frombuffer(image.data, np.float32).reshape(image.height, image.width)
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def intrinsics(view: Any) -> np.ndarray:
    camera = image_camera(view.camera_info, (view.depth.height, view.depth.width))
    if camera is None:
        raise DemoError("a recorded camera has no intrinsics.")
    return camera.intrinsics


def has_pose(view: Any) -> bool:
    q = view.camera_in_map.orientation
    return bool(q.x or q.y or q.z or q.w)


def without_pose(view: Any) -> Any:
    """The same view as of an unknown place."""
    zero = replace(view.camera_in_map.orientation, x=0.0, y=0.0, z=0.0, w=0.0)
    return replace(view, camera_in_map=replace(view.camera_in_map, orientation=zero))


def pose_matrix(pose: Any) -> np.ndarray:
    """`(4, 4)` of a geometry_msgs/Pose; NaN where it is unknown."""
    p, q = pose.position, pose.orientation
    quaternion = np.array([q.x, q.y, q.z, q.w])
    if not quaternion.any():
        return np.full((4, 4), np.nan)
    return compose(np.array([p.x, p.y, p.z]), quaternion)
