# SPDX-License-Identifier: Apache-2.0
"""Poses as messages of ROS: `da3_core.ros_data.conventions` inverts and turns axes, here they are packed."""

from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, Quaternion, Transform, TransformStamped
from nav_msgs.msg import Odometry, Path
from std_msgs.msg import Header

from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.geometry.quaternions import slerp as slerp
from da3_core.ros_data.conventions import OPTICAL_TO_MAP as OPTICAL_TO_MAP
from da3_core.ros_data.conventions import UNKNOWN_VARIANCE as UNKNOWN_VARIANCE
from da3_core.ros_data.conventions import camera_pose_in_map as camera_pose_in_map
from da3_core.ros_data.conventions import compose as compose
from da3_core.ros_data.conventions import in_map_axes as in_map_axes
from da3_core.ros_data.conventions import points_to_map as points_to_map
from da3_core.ros_data.conventions import pose_covariance, unknown_covariance


def matrix_of(transform: Transform) -> np.ndarray:
    """`(4, 4)` child_to_parent of a geometry_msgs/Transform."""
    t, q = transform.translation, transform.rotation
    return compose(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))


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
    message.pose.covariance = pose_covariance(position_sigma_m, rotation_sigma_rad)
    message.twist.covariance = unknown_covariance()
    return message


def path(stamp: Time, map_frame: str, poses: Iterable[PoseStamped]) -> Path:
    """A trajectory of poses that are all in the map."""
    return Path(header=Header(stamp=stamp, frame_id=map_frame), poses=list(poses))


def _quaternion_message(child_to_parent: np.ndarray) -> Quaternion:
    x, y, z, w = quaternion_from_rotation(child_to_parent[:3, :3]).tolist()
    return Quaternion(x=x, y=y, z=z, w=w)
