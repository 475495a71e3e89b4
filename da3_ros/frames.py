# SPDX-License-Identifier: Apache-2.0
"""The one place where cameras of the library become poses of ROS.

The library speaks world-to-camera matrices; its world has the optical axes of the first camera (x right, y down,
z forward). ROS speaks the pose of a frame in another: the map has x forward, y left, z up (REP 103). Here a matrix is
inverted and its axes are changed, and nowhere else. A matrix named `a_to_b` takes coordinates in a to those in b, so
`camera_to_map` is the pose of the camera's optical frame in the map.
"""

from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, Quaternion, Transform, TransformStamped
from nav_msgs.msg import Odometry, Path
from std_msgs.msg import Header

from da3_core.geometry.camera import invert_rigid, quaternion_from_rotation, rotation_from_quaternion

# Forward is the optical z, left is minus the optical x, up is minus the optical y.
OPTICAL_TO_MAP = np.array(
    [
        [0.0, 0.0, 1.0, 0.0],
        [-1.0, 0.0, 0.0, 0.0],
        [0.0, -1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
UNKNOWN_VARIANCE = 1e6


def camera_pose_in_map(world_to_camera: np.ndarray) -> np.ndarray:
    """`(..., 4, 4)` float64 pose of cameras in the map, from world-to-camera matrices in metres."""
    return in_map_axes(invert_rigid(np.asarray(world_to_camera, np.float64)))


def in_map_axes(camera_to_world: np.ndarray) -> np.ndarray:
    """`(..., 4, 4)` float64 the same where the library has inverted already: only the axes of the world change."""
    return OPTICAL_TO_MAP @ np.asarray(camera_to_world, np.float64)


def points_to_map(points_world: np.ndarray) -> np.ndarray:
    """`(..., 3)` points of the world in the map, in the type they come in."""
    x, y, z = (points_world[..., axis] for axis in range(3))
    return np.stack([z, -x, -y], axis=-1)


def slerp(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """`(4,)` quaternion on the shorter great circle from start (share 0) to end (share 1) (Shoemake, 1985)."""
    cosine = float(start @ end)
    if cosine < 0:
        end, cosine = -end, -cosine
    if cosine > 1 - 1e-9:  # the sine below vanishes and the chord is the arc
        mixed = start + share * (end - start)
        return mixed / np.linalg.norm(mixed)
    angle = np.arccos(cosine)
    return (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)


def matrix_of(transform: Transform) -> np.ndarray:
    """`(4, 4)` child_to_parent of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    return compose(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


def compose(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """`(4, 4)` rigid matrix of a translation `(3,)` and a quaternion x, y, z, w."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_quaternion(quaternion)
    matrix[:3, 3] = translation
    return matrix


def pose_message(child_to_parent: np.ndarray) -> Pose:
    """The pose of the child in the parent."""
    pose = Pose(orientation=_quaternion_message(child_to_parent))
    pose.position.x, pose.position.y, pose.position.z = child_to_parent[:3, 3].tolist()
    return pose


def transform_message(stamp: Time, parent: str, child: str, child_to_parent: np.ndarray) -> TransformStamped:
    """The transform that /tf carries: the pose of `child` in `parent`."""
    message = TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child)
    translation = message.transform.translation
    translation.x, translation.y, translation.z = child_to_parent[:3, 3].tolist()
    message.transform.rotation = _quaternion_message(child_to_parent)
    return message


def pose_stamped(stamp: Time, map_frame: str, camera_to_map: np.ndarray) -> PoseStamped:
    """The pose of the camera's optical frame in the map."""
    return PoseStamped(header=Header(stamp=stamp, frame_id=map_frame), pose=pose_message(camera_to_map))


def odometry(
    stamp: Time,
    map_frame: str,
    camera_frame: str,
    camera_to_map: np.ndarray,
    position_sigma_m: float,
    rotation_sigma_rad: float,
) -> Odometry:
    """The same with a diagonal covariance of the pose. Velocity is not estimated: its variance says unknown."""
    message = Odometry(header=Header(stamp=stamp, frame_id=map_frame), child_frame_id=camera_frame)
    message.pose.pose = pose_message(camera_to_map)
    message.pose.covariance = np.diag([position_sigma_m**2] * 3 + [rotation_sigma_rad**2] * 3).ravel()
    message.twist.covariance = np.diag([UNKNOWN_VARIANCE] * 6).ravel()
    return message


def path(stamp: Time, map_frame: str, poses: Iterable[PoseStamped]) -> Path:
    """A trajectory of poses that are all in the map."""
    return Path(header=Header(stamp=stamp, frame_id=map_frame), poses=list(poses))


def _quaternion_message(child_to_parent: np.ndarray) -> Quaternion:
    x, y, z, w = quaternion_from_rotation(child_to_parent[:3, :3]).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)
