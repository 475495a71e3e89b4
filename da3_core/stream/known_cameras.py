# SPDX-License-Identifier: Apache-2.0
"""Cameras of a window that are known from elsewhere (odometry, a calibrated rig): their places stand, their unit, the
metre, becomes that of depth."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import mean_rotation
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.known_scale import SMALLEST_BASELINE, KnownScale


@dataclass(frozen=True, eq=False)
class KnownCameras:
    """A prediction whose cameras are known.

    Attributes:
        prediction: with the known cameras, in float64; depth is in metres where `metres_per_unit` is known.
        metres_per_unit: of the prediction as it came; None where the cameras are too close together to say.
        in_map: the cameras are placed in the map; otherwise they are only fixed to each other.
        deviation: standard deviation of the logarithm of `metres_per_unit`; NaN where it is not followed.
    """

    prediction: Prediction
    metres_per_unit: float | None
    in_map: bool
    deviation: float = float("nan")


def poses_to_condition_on(frames: Sequence[Frame]) -> np.ndarray | None:
    """`(N, 4, 4)` float64 world-to-camera in metres relative to the first frame, for `DepthAnything3.inference`.

    None where a pose or intrinsics are unknown, or all cameras are in one place, which no network learns from.
    """
    if any(frame.intrinsics is None for frame in frames):
        return None
    world_to_camera = _in_map(frames)
    if world_to_camera is None:
        world_to_camera = _in_one_rig(frames)
    if world_to_camera is None:
        return None
    relative = world_to_camera @ invert_rigid(world_to_camera[0])
    is_apart = np.linalg.norm(invert_rigid(relative)[:, :3, 3], axis=1).max() > 1e-3
    return np.asarray(relative) if is_apart else None


def known_cameras(
    frames: Sequence[Frame], names: Sequence[Hashable], prediction: Prediction, scale: KnownScale
) -> KnownCameras | None:
    """What is known about the cameras of a prediction; None where that is nothing for one of the frames.

    Args:
        names: what tells the frames apart, to `scale`, which follows the metres from window to window.
    """
    world_to_camera = _in_map(frames)
    if world_to_camera is not None:
        return _placed(world_to_camera, names, prediction, scale)
    scale.clear()
    if prediction.extrinsics is not None and all(frame.rig is not None for frame in frames):
        return _rigid(frames, prediction)
    return None


def _in_map(frames: Sequence[Frame]) -> np.ndarray | None:
    poses = [frame.world_to_camera for frame in frames if frame.world_to_camera is not None]
    return np.stack(poses) if len(poses) == len(frames) else None


def _in_one_rig(frames: Sequence[Frame]) -> np.ndarray | None:
    places = [frame.rig for frame in frames if frame.rig is not None]
    if len(places) < len(frames) or len({place.frame_set_ns for place in places}) > 1:
        return None
    return invert_rigid(np.stack([place.camera_to_rig for place in places]))


def _placed(
    world_to_camera: np.ndarray, names: Sequence[Hashable], prediction: Prediction, scale: KnownScale
) -> KnownCameras:
    """By poses of all cameras."""
    metres = scale.follow(names, invert_rigid(world_to_camera), prediction)
    prediction = replace(prediction, extrinsics=world_to_camera, segments=None)
    if metres is None:
        return KnownCameras(prediction, None, in_map=True)
    prediction = replace(prediction, depth=prediction.depth * np.float32(metres.per_unit))
    return KnownCameras(prediction, metres.per_unit, in_map=True, deviation=metres.deviation)


def _rigid(frames: Sequence[Frame], prediction: Prediction) -> KnownCameras:
    """By their places in a rig: the set is moved to where the prediction has it on average, at every frame set. Of an
    frame set that the prediction could place in part, all cameras have a place then."""
    assert prediction.extrinsics is not None
    placed = prediction.placed
    camera_to_window = invert_rigid(prediction.extrinsics.astype(np.float64))
    camera_to_rig = np.stack([frame.rig.camera_to_rig for frame in frames if frame.rig is not None])
    frame_sets = np.array([frame.rig.frame_set_ns for frame in frames if frame.rig is not None])
    sets = [np.flatnonzero(frame_sets == frame_set) for frame_set in np.unique(frame_sets)]

    predicted = np.concatenate([_distances(camera_to_window[members[placed[members]]]) for members in sets])
    known = np.concatenate([_distances(camera_to_rig[members[placed[members]]]) for members in sets])
    apart = (predicted > 0) & (known > SMALLEST_BASELINE * known.max(initial=0.0))
    scale = float(np.median(known[apart] / predicted[apart])) if apart.any() else 0.0
    if scale == 0 or known.max(initial=0.0) < SMALLEST_BASELINE * scale * _median(prediction.depth):
        return KnownCameras(prediction, None, in_map=False)

    camera_to_window[:, :3, 3] *= scale
    segments = np.full(len(frames), -1)
    for members in sets:
        if placed[members].any():
            camera_to_window[members] = _fitted(camera_to_rig[members], camera_to_window[members], placed[members])
            segments[members] = 0
    moved = replace(
        prediction,
        extrinsics=invert_rigid(camera_to_window),
        depth=prediction.depth * np.float32(scale),
        segments=segments,
    )
    return KnownCameras(moved, scale, in_map=False)


def _distances(camera_to_world: np.ndarray) -> np.ndarray:
    """Between all pairs of cameras."""
    first, second = np.triu_indices(len(camera_to_world), 1)
    centres = camera_to_world[:, :3, 3]
    return np.asarray(np.linalg.norm(centres[first] - centres[second], axis=1))


def _fitted(camera_to_rig: np.ndarray, camera_to_window: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """The cameras of a rig that was moved as one to where `camera_to_window`, in the same unit, has those that it
    `placed` on average."""
    rig, seen = camera_to_rig[placed], camera_to_window[placed]
    rotation = mean_rotation(seen[:, :3, :3] @ rig[:, :3, :3].transpose(0, 2, 1))
    rig_to_window = np.eye(4)
    rig_to_window[:3, :3] = rotation
    rig_to_window[:3, 3] = np.mean(seen[:, :3, 3] - rig[:, :3, 3] @ rotation.T, axis=0)
    return np.asarray(rig_to_window @ camera_to_rig)


def _median(depth: np.ndarray) -> float:
    valid = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(valid)) if valid.size else 0.0
