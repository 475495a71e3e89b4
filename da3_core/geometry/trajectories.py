# SPDX-License-Identifier: Apache-2.0
"""Camera paths for rendered videos: along given cameras, between them and around them.

Cameras are `(F, 4, 4)` camera-to-world in OpenCV axes with `(F, 3, 3)` intrinsics in pixels, both float64. Movements
around a camera are given for a scene whose depth is about 1, and grow with the depth of the scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion, slerp
from da3_core.geometry.similarity import mean_rotation

Mode = Literal[
    "original", "smooth", "interpolate", "interpolate_smooth", "extend", "wander", "dolly_zoom", "wobble_inter"
]

_SMOOTHING_LENGTH = 51
_WANDER_PIXELS = 24.0  # how far a point at the depth of the scene moves in the image
_WOBBLE_STEP, _WOBBLE_FRAMES = 3, 30


@dataclass(frozen=True, eq=False)
class Trajectory:
    """`camera_to_world` `(F, 4, 4)` and `intrinsics` `(F, 3, 3)` of the frames of a video."""

    camera_to_world: np.ndarray
    intrinsics: np.ndarray

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def __getitem__(self, frames: slice | np.ndarray) -> "Trajectory":
        return Trajectory(self.camera_to_world[frames], self.intrinsics[frames])


def make_trajectory(mode: Mode, base: Trajectory, scene_depth: float = 1.0) -> Trajectory:
    """The path of a mode over `V` base cameras; a single camera always wanders, unless it is asked for as it is.

    Args:
        mode: `original` the base cameras; `smooth` these, smoothed; `interpolate` and `interpolate_smooth` frames
            between successive ones; `extend` the latter with a wander and a dolly zoom in the middle; `wander` an
            ellipse around the first camera; `dolly_zoom` back and forth from it, zooming; `wobble_inter` circling
            while moving between every third camera.
        base: the cameras.
        scene_depth: a typical depth, in the unit of the cameras.
    """
    if mode == "original":
        return base
    if mode == "wander" or len(base) == 1:
        return wander(base[:1], scene_depth)
    if mode == "dolly_zoom":
        return dolly_zoom(base[:1], scene_depth)
    if mode == "wobble_inter":
        return wobble(base)
    if mode == "smooth":
        return smooth(base)
    path = interpolate(base)
    if mode == "interpolate":
        return path
    path = smooth(path)
    return path if mode == "interpolate_smooth" else _extend(path, scene_depth)


def interpolate(base: Trajectory) -> Trajectory:
    """8 frames from each camera to the next, easing in and out; fewer where there are many cameras, more where few."""
    pairs = len(base) - 1
    length = 8
    if pairs * length > 432:
        length = max(1, 240 // pairs)
    elif pairs * length < 48:
        length = max(1, 48 // pairs)
    if length <= 2:
        return base
    eased = (1 - np.cos(np.pi * np.linspace(0, 1, length))) / 2
    parts = [between(base, pair, pair + 1, eased) for pair in range(pairs)]
    return _join([parts[0], *(part[1:] for part in parts[1:])])


def between(base: Trajectory, first: int, last: int, shares: np.ndarray) -> Trajectory:
    """Cameras on the way from one to another: centres and intrinsics on straight lines, rotations by the shorter arc.

    Args:
        shares: `(F,)` of the way, in [0, 1].
    """
    start, end = base.camera_to_world[first], base.camera_to_world[last]
    cameras = np.tile(np.eye(4), (len(shares), 1, 1))
    cameras[:, :3, 3] = start[:3, 3] + shares[:, None] * (end[:3, 3] - start[:3, 3])
    quaternions = quaternion_from_rotation(np.stack([start[:3, :3], end[:3, :3]]))
    cameras[:, :3, :3] = rotation_from_quaternion(slerp(quaternions[0], quaternions[1], shares))
    k = base.intrinsics
    return Trajectory(cameras, k[first] + shares[:, None, None] * (k[last] - k[first]))


def smooth(path: Trajectory) -> Trajectory:
    """Gaussian mean over time of centres and rotations, over at most 51 frames; shorter than 3 frames it stays."""
    frames = len(path)
    length = min(_SMOOTHING_LENGTH, frames - 1 + frames % 2)
    if length < 3:
        return path
    half = length // 2
    sigma = 0.3 * (half - 1) + 0.8
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    kernel /= kernel.sum()

    padded = np.pad(path.camera_to_world, ((half, half), (0, 0), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, length, axis=0)  # (F, 4, 4, length)
    blurred = windows @ kernel
    cameras = path.camera_to_world.copy()
    cameras[:, :3, 3] = blurred[:, :3, 3]
    cameras[:, :3, :3] = [mean_rotation(matrix[None, :3, :3]) for matrix in blurred]
    return Trajectory(cameras, path.intrinsics)


def wander(camera: Trajectory, scene_depth: float, frames: int = 120) -> Trajectory:
    """Once around on an upright ellipse beside the camera, beginning and ending at the camera itself."""
    angle = np.linspace(0, 2 * np.pi, frames)
    radius = _WANDER_PIXELS / camera.intrinsics[0, 0, 0] * scene_depth
    offsets = -radius * np.stack([np.sin(angle), np.cos(angle) / 3, np.cos(angle) / 3], axis=-1)
    moved = _moved(camera, offsets)
    return _join([camera, moved, camera])


def dolly_zoom(
    camera: Trajectory, scene_depth: float, frames: int = 120, distance: float = 2.0, focus: float = 30.0
) -> Trajectory:
    """Back by `distance` and forth again, while the focal length shrinks by `focus / (focus + travelled)`."""
    travelled = 0.5 * (1 - np.cos(np.pi * np.linspace(0, 2, frames))) * distance
    moved = _moved(camera, travelled[:, None] * (0, 0, -scene_depth))
    intrinsics = moved.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= (focus / (focus + travelled))[:, None]
    return Trajectory(moved.camera_to_world, intrinsics)


def wobble(base: Trajectory) -> Trajectory:
    """Between every third camera, circling by half the mean distance of the latest two pairs."""
    stops = [*range(0, len(base) - 1, _WOBBLE_STEP), len(base) - 1]
    shares = np.linspace(0, 1, _WOBBLE_FRAMES)
    circle = np.stack([np.sin(2 * np.pi * shares), -np.cos(2 * np.pi * shares), 0 * shares], axis=-1)
    parts = []
    distance = None
    for first, last in pairwise(stops):
        length = float(np.linalg.norm(base.camera_to_world[last, :3, 3] - base.camera_to_world[first, :3, 3]))
        distance = length if distance is None else (distance + length) / 2
        parts.append(_moved(between(base, first, last, shares), distance / 2 * circle))
    return _join(parts)


def _extend(path: Trajectory, scene_depth: float) -> Trajectory:
    middle = len(path) // 2
    frames = int(np.clip(middle // 2, 36, 60))
    camera = path[middle : middle + 1]
    around = wander(camera, scene_depth, frames)
    zooming = dolly_zoom(camera, scene_depth, frames, distance=0.1, focus=10.0)
    return _join([path[:middle], around, zooming, path[middle:]])


def _moved(cameras: Trajectory, offsets: np.ndarray) -> Trajectory:
    """One camera or as many as there are `offsets` `(F, 3)`, each moved by its offset in its own axes."""
    moved = np.array(np.broadcast_to(cameras.camera_to_world, (len(offsets), 4, 4)))
    moved[:, :3, 3] += (moved[:, :3, :3] @ offsets[:, :, None])[:, :, 0]
    return Trajectory(moved, np.array(np.broadcast_to(cameras.intrinsics, (len(offsets), 3, 3))))


def _join(parts: Sequence[Trajectory]) -> Trajectory:
    return Trajectory(
        np.concatenate([part.camera_to_world for part in parts]), np.concatenate([part.intrinsics for part in parts])
    )
