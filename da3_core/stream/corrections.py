# SPDX-License-Identifier: Apache-2.0
"""Where frames are by now, after what has been seen since they were published: for what may be revised, which is a
path, a map, an export, and what places a robot's odometry in the map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion, slerp
from da3_core.geometry.similarity import Similarity
from da3_core.stream.frame import FrameName
from da3_core.stream.window_graph import WindowGraph

MAX_FUSED_DIFFERENCE = 0.1  # of depths of one pixel, relative: beyond it one of two is on another surface


@dataclass(frozen=True, eq=False)
class CorrectedPose:
    """Where a frame's camera is, and how large its depth, by all that has been seen since it was published.

    Attributes:
        number: of the frame, see `View.number`.
        world_to_camera: `(4, 4)`.
        depth_scale: times the depth that was published.
        said_again: `(H, W)` float32 what the newest window says of its depth, in a unit of its own; None where that
            does not show the frame, or shows it for the first time.
        said_scale: map units, of now, per unit of `said_again`.
    """

    number: int
    stamp_ns: int
    camera: str
    world_to_camera: np.ndarray
    depth_scale: float = 1.0
    said_again: np.ndarray | None = None
    said_scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Bend:
    """How a map was bent to close a loop.

    Attributes:
        at: where every place near a frame of this number was moved to, by its similarity; frames between two of them
            moved by both, frames beyond as the last one did.
    """

    at: Mapping[int, Similarity]

    def __call__(self, number: int, camera_to_map: np.ndarray) -> tuple[np.ndarray, float]:
        """Where the camera `(4, 4)` of a frame is now, and how many times as large everything there is."""
        numbers = np.fromiter(self.at, np.int64)
        after = int(np.searchsorted(numbers, number))
        before, after = numbers[max(after - 1, 0)], numbers[min(after, len(numbers) - 1)]
        share = float(np.clip((number - before) / max(after - before, 1), 0, 1))
        one, other = self.at[int(before)], self.at[int(after)]
        moved, also = one.transform_camera(camera_to_map), other.transform_camera(camera_to_map)
        turns = quaternion_from_rotation(np.stack([moved[:3, :3], also[:3, :3]]))
        result = np.eye(4)
        result[:3, :3] = rotation_from_quaternion(slerp(turns[0], turns[1], share))
        result[:3, 3] = (1 - share) * moved[:3, 3] + share * also[:3, 3]
        return result, float(one.scale ** (1 - share) * other.scale**share)


def corrected_poses(
    graph: WindowGraph[FrameName],
    published_scales: Mapping[FrameName, float],
    said_again: Mapping[FrameName, np.ndarray] | None = None,
    said_scale: float = 1.0,
) -> tuple[CorrectedPose, ...]:
    """Of all frames of a graph.

    Args:
        published_scales: of each frame the map units per unit of the depth that the graph knows it by, as published.
        said_again: depth of some frames by the newest window.
        said_scale: see `CorrectedPose`.
    """
    cameras = zip(graph.frames, invert_rigid(graph.cameras_to_map()), strict=True)
    return tuple(
        CorrectedPose(
            number=name.number,
            stamp_ns=name.stamp_ns,
            camera=name.camera,
            world_to_camera=world_to_camera,
            depth_scale=graph.depth_scale(name) / published_scales[name],
            said_again=None if said_again is None else said_again.get(name),
            said_scale=said_scale,
        )
        for name, world_to_camera in cameras
    )


def fused(depth: np.ndarray, again: np.ndarray, times: int) -> np.ndarray:
    """`(H, W)` depth that has been seen `times` and once `again`, both in one unit: the mean of all where they are
    near each other, what was there before where they are not."""
    with np.errstate(invalid="ignore"):
        difference = again - depth
        near = np.abs(difference) <= MAX_FUSED_DIFFERENCE * depth  # false where either is none
    return np.asarray(np.where(near, depth + difference * np.float32(1 / (times + 1)), depth))
