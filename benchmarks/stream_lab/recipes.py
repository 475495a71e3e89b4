# SPDX-License-Identifier: Apache-2.0
"""Published ways of joining windows, written anew from their descriptions, to hold beside ours on the same answers.

All of them place a window by its neighbour before it, and a frame takes the newest window's say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity, mean_rotation
from da3_core.prediction import Prediction

Window = tuple[list[int], Prediction]

PIXEL_STEP = 3
HUBER_WIDTH = 0.03  # of the median depth; the published 0.1 m
HUBER_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class Shared:
    """What two windows say about the views in both: points `(M, 3)`, confidences and depths `(M,)`, cameras."""

    new_points: np.ndarray
    old_points: np.ndarray
    new_depth: np.ndarray
    old_depth: np.ndarray
    weight: np.ndarray
    new_cameras: np.ndarray
    old_cameras: np.ndarray


def neighbour_points(shared: Shared) -> Similarity:
    """VGGT-Long, DA3-Streaming: confident points, scale as the ratio of spreads, Huber's weights."""
    fit = _points_similarity(shared, shared.weight)
    for _ in range(HUBER_ROUNDS):
        residual = np.linalg.norm(fit.apply(shared.new_points) - shared.old_points, axis=1)
        width = HUBER_WIDTH * float(np.median(shared.old_depth))
        fit = _points_similarity(shared, shared.weight * np.minimum(1, width / np.maximum(residual, 1e-12)))
    return fit


def neighbour_cameras(shared: Shared) -> Similarity:
    """Scale by the ratio of depths, rotation and translation by the shared cameras."""
    scale = float(np.exp(np.median(np.log(shared.old_depth / shared.new_depth))))
    rotation = mean_rotation(shared.old_cameras[:, :3, :3] @ shared.new_cameras[:, :3, :3].transpose(0, 2, 1))
    centres = scale * shared.new_cameras[:, :3, 3] @ rotation.T
    return Similarity(scale, rotation, (shared.old_cameras[:, :3, 3] - centres).mean(0))


RECIPES: dict[str, Callable[[Shared], Similarity]] = {
    "neighbour points": neighbour_points,
    "neighbour cameras": neighbour_cameras,
}


def join(windows: Sequence[Window], frames: int, recipe: str) -> tuple[np.ndarray, np.ndarray]:
    """`(N, 4, 4)` camera-to-map and `(N, H, W)` depth of all frames."""
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    depth = np.zeros((frames, *windows[0][1].depth.shape[1:]))
    to_map = Similarity.identity()
    for number, (chosen, prediction) in enumerate(windows):
        if number:
            to_map = to_map @ RECIPES[recipe](_shared(windows[number - 1], windows[number]))
        assert prediction.extrinsics is not None
        cameras[chosen] = to_map.transform_camera(invert_rigid(prediction.extrinsics.astype(np.float64)))
        depth[chosen] = to_map.scale * prediction.depth
    return cameras, depth


def _points_similarity(shared: Shared, weight: np.ndarray) -> Similarity:
    weight = weight / weight.sum()
    new_mean, old_mean = weight @ shared.new_points, weight @ shared.old_points
    new, old = shared.new_points - new_mean, shared.old_points - old_mean
    scale = float(np.sqrt((weight @ (old**2).sum(1)) / (weight @ (new**2).sum(1))))
    left, _, right = np.linalg.svd((old * weight[:, None]).T @ new)
    signs = np.array([1, 1, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    return Similarity(scale, rotation, old_mean - scale * rotation @ new_mean)


def _shared(before: Window, after: Window) -> Shared:
    common = [frame for frame in after[0] if frame in before[0]]
    old = _seen(before, common)
    new = _seen(after, common)
    floor = 0.1 * min(np.median(old[2]), np.median(new[2]))
    sure = (old[2] > floor) & (new[2] > floor)
    weight = np.sqrt(old[2] * new[2])[sure]
    return Shared(new[0][sure], old[0][sure], new[1][sure], old[1][sure], weight, new[3], old[3])


def _seen(window: Window, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, depths and confidences above 1 of a grid of pixels, and the cameras, of some frames of a window."""
    chosen, prediction = [window[0].index(frame) for frame in frames], window[1]
    assert prediction.extrinsics is not None
    assert prediction.intrinsics is not None
    assert prediction.conf is not None
    cameras = invert_rigid(prediction.extrinsics[chosen].astype(np.float64))
    height, width = prediction.depth.shape[1:]
    v, u = np.mgrid[PIXEL_STEP // 2 : height : PIXEL_STEP, PIXEL_STEP // 2 : width : PIXEL_STEP]
    pixels = np.stack([u + 0.5, v + 0.5, np.ones_like(u)], -1).reshape(-1, 3)
    depth = prediction.depth[chosen][:, v, u].astype(np.float64).reshape(len(frames), -1)  # (S, P)
    rays = pixels @ np.linalg.inv(prediction.intrinsics[chosen].astype(np.float64)).transpose(0, 2, 1)  # (S, P, 3)
    points = (rays * depth[:, :, None]) @ cameras[:, :3, :3].transpose(0, 2, 1) + cameras[:, None, :3, 3]
    confidence = prediction.conf[chosen][:, v, u].astype(np.float64).reshape(-1) - 1
    return points.reshape(-1, 3), depth.reshape(-1), confidence, cameras
