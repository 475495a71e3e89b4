# SPDX-License-Identifier: Apache-2.0
"""What messages say, as plain numbers, texts and arrays, before they are messages of any class.

ROS and `rosbags` have classes of their own, with the same names of fields. `packed` makes messages of the latter;
`da3_ros.messages` makes those of ROS, and writes pixels and points straight into their memory.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from da3_core.geometry.quaternions import quaternion_from_rotation
from da3_core.ros_data.conventions import unknown_covariance

IMAGE, CAMERA_INFO, POINT_CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2"
POSE_STAMPED, TRANSFORMS = "geometry_msgs/msg/PoseStamped", "tf2_msgs/msg/TFMessage"
ODOMETRY, PATH = "nav_msgs/msg/Odometry", "nav_msgs/msg/Path"
COMPRESSED_IMAGE, LASER_SCAN = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/LaserScan"
COMPRESSED_DEPTH_HEAD_BYTES = 12  # a format and two parameters of 32-bit depth, which 16-bit depth has not
IS_BIG_ENDIAN = sys.byteorder == "big"


@dataclass(frozen=True, eq=False)
class MessageValue:
    """Every field of one message.

    Attributes:
        type: as ROS writes it, `sensor_msgs/msg/Image`.
        fields: numbers, texts, `(N,)` arrays of the field's type, `LateBytes`, further values, and lists of these.
            Whatever else there is, such as a header that is a message already, is taken as it is.
    """

    type: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LateBytes:
    """An array of bytes that is written only once, into the memory of the message.

    Attributes:
        size: how many.
        write: fills `(size,)` uint8.
    """

    size: int
    write: Callable[[np.ndarray], None]


def message(kind: str, /, **fields: Any) -> MessageValue:
    """The value of a message with these fields."""
    return MessageValue(kind, fields)


def packed(content: Any, types: Mapping[str, Any]) -> Any:
    """A value in message classes by the name of their type; they take all fields by name, as those of `rosbags` do."""
    if isinstance(content, MessageValue):
        return types[content.type](**{name: packed(each, types) for name, each in content.fields.items()})
    if isinstance(content, list):
        return [packed(each, types) for each in content]
    if isinstance(content, LateBytes):
        memory = np.empty(content.size, np.uint8)
        content.write(memory)
        return memory
    return content


def time(stamp_ns: int) -> MessageValue:
    """The stamp of integer nanoseconds."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> MessageValue:
    return message("std_msgs/msg/Header", stamp=time(stamp_ns), frame_id=frame_id)


def image(header: Any, pixels: np.ndarray, encoding: str) -> MessageValue:
    """An image of `(H, W)` or `(H, W, C)` pixels in the type that the encoding says; they are not copied here."""
    pixels = np.ascontiguousarray(pixels)
    return message(
        IMAGE,
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(IS_BIG_ENDIAN),
        step=pixels.nbytes // max(1, pixels.shape[0]),
        data=pixels.reshape(-1).view(np.uint8),
    )


def compressed_image(header: Any, pixels: np.ndarray, encoding: str, *, as_depth: bool = False) -> MessageValue:
    """An image in few bytes, as image_transport has it: `(H, W)` uint16 as PNG, `(H, W, 3)` uint8 RGB as JPEG.

    Args:
        as_depth: for subscribers of compressedDepth, who expect a head of their own before the PNG.
    """
    if pixels.ndim == 3:
        form = f"{encoding}; jpeg compressed bgr8"
        _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    else:
        form = f"{encoding}; {'compressedDepth png' if as_depth else 'png compressed'}"
        _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    head = np.zeros(COMPRESSED_DEPTH_HEAD_BYTES if as_depth else 0, np.uint8)
    return message(COMPRESSED_IMAGE, header=header, format=form, data=np.concatenate([head, data.ravel()]))


def no_image(header: Any) -> MessageValue:
    """The image of what is not there."""
    return image(header, np.zeros((0, 0), np.uint8), "")


def pose(child_to_parent: np.ndarray | None) -> MessageValue:
    """The pose of the child in the parent, from `(4, 4)`; None is all zero, the quaternion too: unknown."""
    position, quaternion = np.zeros(3), np.zeros(4)
    if child_to_parent is not None:
        position, quaternion = child_to_parent[:3, 3], quaternion_from_rotation(child_to_parent[:3, :3])
    return message(
        "geometry_msgs/msg/Pose",
        position=_xyzw("Point", position),
        orientation=_xyzw("Quaternion", quaternion),
    )


def pose_stamped(header: Any, child_to_parent: np.ndarray) -> MessageValue:
    """The same at a time; the frame of the header is the parent."""
    return message(POSE_STAMPED, header=header, pose=pose(child_to_parent))


def odometry(
    header: Any,
    child_frame_id: str,
    child_to_parent: np.ndarray,
    covariance: np.ndarray,
) -> MessageValue:
    """The same with the covariance `(36,)` of the pose. Velocity is not estimated: its variance says unknown."""
    zero = _xyzw("Vector3", np.zeros(3))
    return message(
        ODOMETRY,
        header=header,
        child_frame_id=child_frame_id,
        pose=message(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=pose(child_to_parent),
            covariance=covariance,
        ),
        twist=message(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=message("geometry_msgs/msg/Twist", linear=zero, angular=zero),
            covariance=unknown_covariance(),
        ),
    )


def path(header: Any, poses: Sequence[Any]) -> MessageValue:
    """A trajectory of `pose_stamped` in the frame of the header, packed or not."""
    return message(PATH, header=header, poses=list(poses))


def transform(header: Any, child_frame_id: str, child_to_parent: np.ndarray) -> MessageValue:
    """What /tf carries: one transform, the pose of the child in the frame of the header."""
    stamped = message(
        "geometry_msgs/msg/TransformStamped",
        header=header,
        child_frame_id=child_frame_id,
        transform=message(
            "geometry_msgs/msg/Transform",
            translation=_xyzw("Vector3", child_to_parent[:3, 3]),
            rotation=_xyzw("Quaternion", quaternion_from_rotation(child_to_parent[:3, :3])),
        ),
    )
    return message(TRANSFORMS, transforms=[stamped])


def _xyzw(kind: str, numbers: np.ndarray) -> MessageValue:
    return message(f"geometry_msgs/msg/{kind}", **dict(zip("xyzw", numbers.tolist(), strict=False)))
