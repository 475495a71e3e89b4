# SPDX-License-Identifier: Apache-2.0
"""What ROS wants otherwise than the library, as numbers: axes of poses, centres of pixels, invalid depth.

Everything that writes ROS messages, live or into a bag, takes these numbers from here. The library speaks
world-to-camera matrices; its world has the optical axes of the first camera (x right, y down, z forward). ROS speaks
the pose of a frame in another: the map has x forward, y left, z up (REP 103). Here a matrix is inverted and its axes
are changed, and nowhere else. A matrix named `a_to_b` takes coordinates in a to those in b, so `camera_to_map` is the
pose of the camera's optical frame in the map.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.quaternions import rotation_from_quaternion
from da3_core.prediction import Prediction

HALF_PIXEL = 0.5  # ROS counts from the centre of the first pixel, da3_core from its edge
UNKNOWN_VARIANCE = 1e6
# Forward is the optical z, left is minus the optical x, up is minus the optical y.
OPTICAL_TO_MAP = np.array(
    [
        [0.0, 0.0, 1.0, 0.0],
        [-1.0, 0.0, 0.0, 0.0],
        [0.0, -1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def camera_pose_in_map(world_to_camera: np.ndarray) -> np.ndarray:
    """`(..., 4, 4)` float64 pose of cameras in the map, from world-to-camera matrices in metres."""
    return np.asarray(OPTICAL_TO_MAP @ invert_rigid(np.asarray(world_to_camera, np.float64)))


def points_in_map(points: np.ndarray) -> np.ndarray:
    """`(P, 3)` points of the library's world in the axes of the map."""
    return np.asarray(points @ OPTICAL_TO_MAP[:3, :3].T.astype(points.dtype))


def world_to_camera_in_map(camera_to_map: np.ndarray) -> np.ndarray:
    """`(..., 4, 4)` float64 world-to-camera matrices of cameras whose pose in the map is known: `camera_pose_in_map`
    turned round."""
    return invert_rigid(OPTICAL_TO_MAP.T @ np.asarray(camera_to_map, np.float64))


def in_map_axes(prediction: Prediction, map_frame: str, odom_frame: str = "odom") -> Prediction:
    """What a session recorded, in the axes in which poses are published, and with the name of their frame.

    Args:
        odom_frame: the frame of the poses that images came with, where these are the map.
    """
    if prediction.extrinsics is None:
        return prediction
    camera_to_map = camera_pose_in_map(prediction.extrinsics)
    frame = odom_frame if prediction.world == "input" else map_frame
    return replace(prediction, extrinsics=invert_rigid(camera_to_map).astype(np.float32), world=frame)


def compose(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """`(4, 4)` rigid matrix of a translation `(3,)` and a quaternion x, y, z, w."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_quaternion(quaternion)
    matrix[:3, 3] = translation
    return matrix


def stamp_ns(stamp: Any) -> int:
    """Integer nanoseconds of a stamp."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def publishable_depth(
    depth: np.ndarray,
    confidence: np.ndarray | None = None,
    sky: np.ndarray | None = None,
    confidence_floor: float = 0.0,
) -> np.ndarray:
    """`(H, W)` float32 depth as REP 117 and 118 want it: sky +Inf; not positive, not finite or not trusted NaN."""
    invalid = ~(depth > 0) | ~np.isfinite(depth)
    if confidence is not None and confidence_floor > 0:
        invalid |= ~(confidence >= confidence_floor)
    result = depth.astype(np.float32, copy=True)
    result[invalid] = np.nan
    if sky is not None:
        result[sky] = np.inf
    return result


def depth_in_millimetres(depth_m: np.ndarray) -> np.ndarray:
    """`(H, W)` uint16 (REP 118): 0 where depth is not finite, not positive or beyond 65.535 m."""
    millimetres = np.rint(depth_m.astype(np.float32, copy=False) * np.float32(1000))
    representable = (millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max)
    return np.where(representable, millimetres, np.float32(0)).astype(np.uint16)


def covariance_in_map(pose_covariance: np.ndarray | None) -> np.ndarray:
    """`(36,)` row-major of x, y, z and the rotations about them, from `View.pose_covariance`; None is unknown."""
    if pose_covariance is None:
        return unknown_covariance()
    turn = np.kron(np.eye(2), OPTICAL_TO_MAP[:3, :3])  # (6, 6)
    return np.asarray(turn @ pose_covariance @ turn.T).ravel()


def unknown_covariance() -> np.ndarray:
    """`(36,)` of what is not estimated, such as velocity."""
    return np.diag([UNKNOWN_VARIANCE] * 6).ravel()
