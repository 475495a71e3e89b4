# SPDX-License-Identifier: Apache-2.0
"""What a model said about a window, made fit to be placed in a map."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion
from da3_core.geometry.upsampling import resampled
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.view_scales import steadied


def prepared(prediction: Prediction, frames: Sequence[Frame], known: Collection[Frame]) -> Prediction:
    """Without depth where frames are masked, its views in one map, its cameras exact, and the scales of its views
    steadied.

    Args:
        known: those of the frames that were seen before, by which one of several maps is chosen.
    """
    return steadied(_orthonormal(_in_one_map(_without_masked(prediction, frames), known, frames)))


def _without_masked(prediction: Prediction, frames: Sequence[Frame]) -> Prediction:
    """Depth without the pixels that frames keep out."""
    if all(frame.mask is None for frame in frames):
        return prediction
    depth, size = prediction.depth.copy(), prediction.depth.shape[1:]
    for i, frame in enumerate(frames):
        if frame.mask is None:
            continue
        height, width = frame.mask.shape
        to_seen = np.diag([size[1] / width, size[0] / height, 1.0])
        if prediction.processed_from_original is not None:
            to_seen = prediction.processed_from_original[i]
        seen = resampled(frame.mask.astype(np.uint8), np.linalg.inv(to_seen), size, nearest=True)
        depth[i][seen > 0] = np.nan
    return replace(prediction, depth=depth)


def _in_one_map(prediction: Prediction, known: Collection[Frame], frames: Sequence[Frame]) -> Prediction:
    """Of several maps that an inference made, the one with most frames that the session knows, else the largest."""
    maps = prediction.maps
    if len(maps) < 2:
        return prediction
    chosen = max(maps, key=lambda views: (sum(frames[i] in known for i in views), len(views)))
    segments = np.full(len(frames), -1)
    segments[chosen] = 0
    assert prediction.extrinsics is not None
    extrinsics = np.where((segments < 0)[:, None, None], np.float32(np.nan), prediction.extrinsics)
    return replace(prediction, segments=segments, extrinsics=extrinsics)


def _orthonormal(prediction: Prediction) -> Prediction:
    """Cameras in float64, their rotations exact: far from the origin of a map, the rounding of float32 is metres."""
    if prediction.extrinsics is None:
        return prediction
    extrinsics = prediction.extrinsics.astype(np.float64)
    rotations = extrinsics[prediction.placed, :3, :3]
    extrinsics[prediction.placed, :3, :3] = rotation_from_quaternion(quaternion_from_rotation(rotations))
    return replace(prediction, extrinsics=extrinsics)
