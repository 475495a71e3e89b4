# SPDX-License-Identifier: Apache-2.0
"""CameraInfo messages: what they say about the pixels of an image, when they are refused, and those we publish."""

from typing import Any

import numpy as np

from da3_core.ros_data.conventions import HALF_PIXEL
from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.values import CAMERA_INFO, MessageValue, message


def intrinsics_from_camera_info(message: Any, size_hw: tuple[int, int]) -> np.ndarray | None:
    """`(3, 3)` float64 intrinsics of a `size_hw` image, pixel edges at integers, or None when uncalibrated.

    K belongs to the full image of the sensor: region of interest and binning are applied in this order, then a resize
    with one ratio for both sides.

    Raises:
        RefusedMessage: values that no camera has, lens distortion, or a size that no such resize explains.
    """
    focal_and_distortion = np.array([*message.k, *message.d], np.float64)
    if not np.isfinite(focal_and_distortion).all():
        raise _bad_calibration(f"holds {focal_and_distortion.tolist()} as K and D; all must be finite, calibrate again")
    intrinsics = focal_and_distortion[:9].reshape(3, 3)
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    if fx == 0:
        return None
    if fx < 0 or fy <= 0:
        raise _bad_calibration(f"has the focal lengths {fx:g} and {fy:g}; both must be positive, calibrate again")
    if np.any(focal_and_distortion[9:]):
        raise _bad_calibration(
            f"has the {message.distortion_model} distortion {focal_and_distortion[9:].tolist()}; "
            "an image without distortion is needed, rectify it first with image_proc"
        )
    pixel_from_sensor, calibrated_hw = _region_and_binning(message)
    intrinsics[:2, 2] += HALF_PIXEL
    return np.asarray(_uniform_resize(calibrated_hw, size_hw) @ pixel_from_sensor @ intrinsics)


def camera_info(header: Any, intrinsics: np.ndarray | None, size_hw: tuple[int, ...]) -> MessageValue:
    """The calibration of an undistorted `size_hw` image from `(3, 3)` intrinsics with pixel edges at integers.

    None is a camera that is not calibrated: all but the size is zero then, as ROS says it.
    """
    k, r, p = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 4))
    if intrinsics is not None:
        k = np.array(intrinsics, np.float64)
        k[:2, 2] -= HALF_PIXEL
        r, p = np.eye(3), np.c_[k, np.zeros(3)]
    height, width = size_hw
    return message(
        CAMERA_INFO,
        header=header,
        height=height,
        width=width,
        distortion_model="" if intrinsics is None else "plumb_bob",
        d=np.zeros(0 if intrinsics is None else 5),
        k=k.ravel(),
        r=r.ravel(),
        p=p.ravel(),
        binning_x=0,
        binning_y=0,
        roi=message("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def _bad_calibration(reason: str) -> RefusedMessage:
    return RefusedMessage("camera_info", f"CameraInfo {reason}.")


def _region_and_binning(message: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """`(3, 3)` from pixels of the sensor to those of its binned region of interest, and the (height, width) of that."""
    roi, bin_x, bin_y = message.roi, max(1, message.binning_x), max(1, message.binning_y)
    x, y, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
    if width == 0 or height == 0:
        x, y, width, height = 0, 0, message.width, message.height
    pixel_from_sensor = np.array([[1 / bin_x, 0, -x / bin_x], [0, 1 / bin_y, -y / bin_y], [0, 0, 1]])
    return pixel_from_sensor, (height // bin_y, width // bin_x)


def _uniform_resize(calibrated_hw: tuple[int, int], size_hw: tuple[int, int]) -> np.ndarray:
    """`(3, 3)` scaling from the calibrated to the actual size; both sides may have been rounded to whole pixels."""
    (calibrated_h, calibrated_w), (height, width) = calibrated_hw, size_hw
    rounding = 0.5 * (1 + width / height)
    if 0 in calibrated_hw or abs(calibrated_w * height / calibrated_h - width) > rounding:
        raise RefusedMessage(
            "camera_info_size",
            f"CameraInfo is for {calibrated_w}x{calibrated_h} pixels and the image has {width}x{height}; "
            "the sizes must be equal or have one ratio for both sides.",
        )
    return np.diag([width / calibrated_w, height / calibrated_h, 1.0])
