# SPDX-License-Identifier: Apache-2.0
"""A walk through the live session, as a node would feed it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.joined_windows import join_windows
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import Session, SessionOptions, WindowResult
from stream_lab.noise import DisturbedModel
from stream_lab.worlds import SIZE, Walk


@dataclass(frozen=True, eq=False)
class Joined:
    """`(N, 4, 4)` camera-to-map and `(N, H, W)` depth of all frames as published, every result, and what an export of
    the session holds in the end: the last map, as it is known by then."""

    cameras: np.ndarray
    depth: np.ndarray
    results: Sequence[WindowResult]
    exported: Prediction

    @property
    def exported_cameras(self) -> np.ndarray:
        """`(M, 4, 4)`."""
        assert self.exported.extrinsics is not None
        return invert_rigid(self.exported.extrinsics.astype(np.float64))


def make_frames(count: int, world_to_camera: np.ndarray | None = None) -> list[Frame]:
    image = np.zeros((*SIZE, 3), np.uint8)
    poses = [None] * count if world_to_camera is None else list(world_to_camera)
    return [Frame(image, stamp_ns=i, world_to_camera=pose) for i, pose in enumerate(poses)]


def window_ends(frames: int, size: int, stride: int) -> list[int]:
    ends = list(range(size, frames + 1, stride))
    return ends if ends[-1] == frames else [*ends, frames]


def live(
    model: DisturbedModel,
    walk: Walk,
    size: int,
    stride: int,
    options: SessionOptions | None = None,
    *,
    loops: bool = False,
) -> Joined:
    count = len(walk.depth_m)
    frames = make_frames(count)
    closing = LiveLoops(model, in_background=False) if loops else None
    session = Session(model, options or SessionOptions("auto", 1.0), closing)
    cameras, depth, results = np.zeros((count, 4, 4)), np.zeros(walk.depth_m.shape), []
    record = SessionRecord(count)
    for end in window_ends(count, size, stride):
        results.append(session.process(frames[end - size : end]))
        record.add(results[-1], 0)
        for view in results[-1].views:
            if view.is_new:
                cameras[view.frame.stamp_ns] = invert_rigid(view.world_to_camera)
                depth[view.frame.stamp_ns] = view.depth
    if settled := session.settle():
        record.add(settled, 0)
    return Joined(cameras, depth, results, record.prediction())


def recorded(
    model: Callable[[Sequence[Frame]], Prediction], walk: Walk, size: int, stride: int, *, loops: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Cameras and depth of all frames of the same windows, joined as those of a video file are."""
    frames = make_frames(len(walk.depth_m))
    windows = [range(end - size, end) for end in window_ends(len(frames), size, stride)]
    said = (model(frames[window.start : window.stop]) for window in windows)
    infer = (lambda views: model([frames[view] for view in views])) if loops else None
    prediction = join_windows(windows, said, same_world=False, infer=infer)
    assert prediction.extrinsics is not None
    return invert_rigid(prediction.extrinsics.astype(np.float64)), prediction.depth


@dataclass(frozen=True, eq=False)
class Metres:
    """Of every window: `error` `(M,)` of the logarithm of the depth of its new views, median, and what was stated."""

    error: np.ndarray
    deviation: np.ndarray


def known_metres(
    model: DisturbedModel,
    walk: Walk,
    size: int,
    stride: int,
    *,
    pose_noise_m: float = 0.0,
    pose_noise_deg: float = 0.0,
    seed: int = 5,
) -> Metres:
    """A session that is told where the cameras are, with noise."""
    rng, count = np.random.default_rng(seed), len(walk.depth_m)
    given = walk.camera_to_world.copy()
    given[:, :3, 3] += pose_noise_m * rng.normal(size=(count, 3))
    turns = Rotation.from_rotvec(np.deg2rad(pose_noise_deg) * rng.normal(size=(count, 3))).as_matrix()
    given[:, :3, :3] = given[:, :3, :3] @ turns
    frames, session = make_frames(count, invert_rigid(given)), Session(model, SessionOptions("auto", 1.0))
    error, deviation = [], []
    for end in window_ends(count, size, stride):
        result = session.process(frames[end - size : end])
        new = [view for view in result.views if view.is_new]
        ratios = [np.median(np.log(view.depth / walk.depth_m[view.frame.stamp_ns])) for view in new]
        error.append(float(np.median(ratios)))
        deviation.append(result.scale_deviation)
    return Metres(np.array(error), np.array(deviation))
