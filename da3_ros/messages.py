# SPDX-License-Identifier: Apache-2.0
"""numpy to sensor_msgs: images, camera calibration and stamps. The way back is in `da3_core.ros_data.images`.

Pixels are copied as whole buffers, never element by element. Clouds are in `clouds`.
"""

import sys

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from da3_core.ros_data.camera_info import intrinsics_from_camera_info as intrinsics_from_camera_info
from da3_core.ros_data.conventions import camera_matrices, depth_in_millimetres
from da3_core.ros_data.conventions import publishable_depth as publishable_depth
from da3_core.ros_data.conventions import stamp_ns as stamp_ns
from da3_core.ros_data.images import RefusedMessage as RefusedMessage
from da3_core.ros_data.images import check_image as check_image
from da3_core.ros_data.images import compressed_size as compressed_size
from da3_core.ros_data.images import compressed_to_rgb as compressed_to_rgb
from da3_core.ros_data.images import image_to_rgb as image_to_rgb


def to_stamp(nanoseconds: int) -> Time:
    """The stamp of integer nanoseconds."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def image_message(header: Header, pixels: np.ndarray, encoding: str) -> Image:
    """An `Image` of `(H, W)` or `(H, W, C)` pixels, one copy of the buffer; the header is shared, not copied."""
    pixels = np.ascontiguousarray(pixels)
    message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = pixels.nbytes // pixels.shape[0]
    message.is_bigendian = int(sys.byteorder == "big")
    message.data.frombytes(pixels.reshape(-1).view(np.uint8).data)
    return message


def rgb_message(header: Header, image: np.ndarray) -> Image:
    """`(H, W, 3)` uint8 RGB as rgb8."""
    return image_message(header, image, "rgb8")


def mono_message(header: Header, mask: np.ndarray) -> Image:
    """`(H, W)` bool (true is 255) or uint8 as mono8."""
    return image_message(header, mask.astype(np.uint8) * 255 if mask.dtype == bool else mask, "mono8")


def depth_message(header: Header, depth_m: np.ndarray) -> Image:
    """`(H, W)` depth along the optical z axis as 32FC1 (REP 118): NaN unknown, +Inf beyond every range."""
    return image_message(header, depth_m.astype(np.float32, copy=False), "32FC1")


def depth_mm_message(header: Header, depth_m: np.ndarray) -> Image:
    """The same as 16UC1 millimetres (REP 118): 0 where depth is not finite, not positive or beyond 65.535 m."""
    return image_message(header, depth_in_millimetres(depth_m), "16UC1")


def confidence_message(header: Header, confidence: np.ndarray) -> Image:
    """`(H, W)` confidence, at least 1 and higher is better, as 32FC1."""
    return image_message(header, confidence.astype(np.float32, copy=False), "32FC1")


def camera_info_message(header: Header, intrinsics: np.ndarray, size_hw: tuple[int, int]) -> CameraInfo:
    """The calibration of an undistorted `size_hw` image from `(3, 3)` intrinsics with pixel edges at integers."""
    height, width = size_hw
    k, r, p = camera_matrices(intrinsics)
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.ravel(),
        r=r.ravel(),
        p=p.ravel(),
    )
