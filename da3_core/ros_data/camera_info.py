# SPDX-License-Identifier: Apache-2.0
"""CameraInfo messages: what they say about the pixels of an image, when they are refused, and those we publish."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.cameras import camera_fault
from da3_core.geometry.distortion import NO_DISTORTION, Lens, Rectification, rectification
from da3_core.options import IsRectified
from da3_core.ros_data.conventions import HALF_PIXEL
from da3_core.ros_data.images import Refusal, RefusedMessage
from da3_core.ros_data.values import CAMERA_INFO, MessageValue, message

SAME_AXES = 1e-3  # largest entry of |R - I| of a camera that is not turned by its rectification
SAME_CAMERA = 1e-6  # of the focal length
POLYNOMIAL_SIZES = (4, 5, 8, 12, 14)  # numbers of coefficients that OpenCV knows
RECTIFIED_NAME = re.compile(r"(?<![a-z])rect(ified)?(?![a-z])")  # image_rect, image_rect_color, rect/image


@dataclass(frozen=True, eq=False)
class ImageCamera:
    """The camera of an image that is or becomes a pinhole's.

    Attributes:
        intrinsics: `(3, 3)` float64 of the image once it is rectified, pixel edges at integers.
        rectify: what rectifies it, or None where there is nothing to do.
    """

    intrinsics: np.ndarray
    rectify: Rectification | None = None

    @cached_property
    def kept(self) -> float:
        """The share of its pixels that the rectified image still shows."""
        return 1.0 if self.rectify is None else self.rectify.kept

    def rectified(self, image: np.ndarray) -> np.ndarray:
        return image if self.rectify is None else self.rectify(image)


class ImageCalibration:
    """What CameraInfo says about the images of one topic. The last answer is kept, with its maps, while that stays.

    Attributes:
        is_rectified: whether the images are rectified already; None where the CameraInfo has to tell.
    """

    def __init__(self, image_topic: str, is_rectified: IsRectified, alpha: float) -> None:
        """Bind to a topic, whose name tells where `is_rectified` is auto; `alpha` as of `RectifyOptions`."""
        self.is_rectified = named_rectified(image_topic, is_rectified)
        self._alpha = alpha
        self._key: object = None
        self._answer: ImageCamera | RefusedMessage | None = None

    def camera(self, message: Any, size_hw: tuple[int, int]) -> ImageCamera | None:
        """Of a `size_hw` image, see `image_camera`; raises as it does."""
        key = (_content(message), size_hw)
        if key != self._key:
            try:
                self._answer = image_camera(message, size_hw, is_rectified=self.is_rectified, alpha=self._alpha)
            except RefusedMessage as refusal:
                self._answer = refusal
            self._key = key
        if isinstance(self._answer, RefusedMessage):
            raise self._answer.with_traceback(None)
        return self._answer


def named_rectified(image_topic: str, choice: IsRectified) -> bool | None:
    """Whether the images of a topic are rectified; None where neither the choice nor the name says yes or no."""
    if choice == "auto":
        return True if RECTIFIED_NAME.search(image_topic.lower()) else None
    return choice == "yes"


def image_camera(
    message: Any, size_hw: tuple[int, int], *, is_rectified: bool | None = None, alpha: float = 0.0
) -> ImageCamera | None:
    """The camera of a `size_hw` image, or None when it is uncalibrated.

    One CameraInfo is for raw and rectified images: K and D of the former, P of the latter. A rectified image has P's
    camera. So has one of a lens without distortion whose P differs, unless it is known not to be rectified. A raw image
    becomes that of P's camera where P keeps the axes, else that of one which keeps the field of view as `alpha` says.

    K and P belong to the full image of the sensor: region of interest and binning are applied in this order, then a
    resize with one ratio for both sides. A sensor of 0x0 pixels has those of the image.

    Args:
        is_rectified: None where it is not known.

    Raises:
        RefusedMessage: values that no camera has, a lens that is not understood, or a size that no resize explains.
    """
    raw, of_rectified = np.array(message.k, np.float64).reshape(3, 3), np.array(message.p, np.float64).reshape(3, 4)
    pinhole = of_rectified[:, :3]
    has_pinhole = pinhole[0, 0] != 0 and np.isfinite(pinhole).all()
    if is_rectified and has_pinhole:
        return ImageCamera(_of_image(pinhole, "P", message, size_hw))
    if raw[0, 0] == 0:
        return None
    matrix = _of_image(raw, "K", message, size_hw)
    lens = _lens(message)
    if lens.is_pinhole:
        differs = has_pinhole and np.abs(pinhole - raw).max() > SAME_CAMERA * raw[0, 0]
        return ImageCamera(_of_image(pinhole, "P", message, size_hw) if differs and is_rectified is None else matrix)
    if is_rectified:
        return None  # K is that of the images before
    try:
        widest = rectification(lens, matrix, size_hw, alpha)
    except InputError as error:
        raise _refused("distortion", f"has {error}") from error
    if has_pinhole and _keeps_axes(message):
        target = _carried_over(pinhole, message, size_hw)
        if camera_fault(target, size_hw) is None:
            return ImageCamera(target, Rectification(lens, matrix, target, size_hw))
    return ImageCamera(widest.intrinsics, widest)


def stereo_place(message: Any, is_rectified: bool | None) -> np.ndarray | None:
    """`(4, 4)` pose in metres of a camera in the axes of the first one of a stereo pair, once that is rectified.

    It is in P, whose fourth column holds `-fx * baseline`; None where P is not calibrated.
    """
    p, r = np.array(message.p, np.float64).reshape(3, 4), np.array(message.r, np.float64).reshape(3, 3)
    if camera_fault(p[:, :3]) is not None or not np.isfinite(p).all():
        return None
    camera_to_first = np.eye(4)
    camera_to_first[:2, 3] = -p[:2, 3] / p[[0, 1], [0, 1]]
    if not is_rectified and np.allclose(r @ r.T, np.eye(3), atol=SAME_AXES):
        camera_to_first[:3, :3] = r  # from the axes of the raw images
    return camera_to_first


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


def _refused(reason: str, text: str) -> RefusedMessage:
    return RefusedMessage(cast(Refusal, f"camera_info_{reason}"), f"CameraInfo {text}.")


def _content(message: Any) -> tuple[Any, ...]:
    """Everything in a message that its meaning depends on, to be compared."""
    roi = message.roi
    return (
        *(np.asarray(values, np.float64).tobytes() for values in (message.k, message.d, message.r, message.p)),
        *(message.distortion_model, message.width, message.height, message.binning_x, message.binning_y),
        *(roi.x_offset, roi.y_offset, roi.width, roi.height),
    )


def _of_image(matrix: np.ndarray, name: str, message: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """K or the left of P for the pixels of the image; raises RefusedMessage for what no camera has."""
    if fault := camera_fault(matrix):
        raise _refused(fault[0], f"has as {name} {matrix.tolist()}, with {fault[1]}; calibrate again")
    carried = _carried_over(matrix, message, size_hw)
    if fault := camera_fault(carried, size_hw):
        raise _refused(fault[0], f"has as {name} {matrix.tolist()}, which is {fault[1]}; calibrate again")
    return carried


def _carried_over(matrix: np.ndarray, message: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """From the sensor to the pixels of the image, their edges at integers."""
    edges = matrix.copy()
    edges[:2, 2] += HALF_PIXEL
    pixel_from_sensor, calibrated_hw = _region_and_binning(message)
    return np.asarray(_uniform_resize(calibrated_hw, size_hw) @ pixel_from_sensor @ edges)


def _keeps_axes(message: Any) -> bool:
    """Whether the rectified camera that P is about looks where the raw one does."""
    r = np.array(message.r, np.float64).reshape(3, 3)
    return not r.any() or bool(np.abs(r - np.eye(3)).max() < SAME_AXES)


def _lens(message: Any) -> Lens:
    """Raises RefusedMessage for coefficients that are not finite or whose model is not known."""
    d, model = np.array(message.d, np.float64), message.distortion_model.lower()
    if not np.isfinite(d).all():
        raise _refused("values", f"has {d.tolist()} as D, which must be finite; calibrate again")
    if np.all(np.abs(d) < NO_DISTORTION):
        return Lens()
    if model == "equidistant" and d.size == 4:
        return Lens("fisheye", radial=tuple(d.tolist()))
    if model in ("plumb_bob", "rational_polynomial", "") and d.size in POLYNOMIAL_SIZES:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, *tilt = np.pad(d, (0, 14 - d.size)).tolist()
        if not any(tilt):
            return Lens(radial=(k1, k2, k3), denominator=(k4, k5, k6), tangential=(p1, p2), prism=(s1, s2, s3, s4))
    raise _refused(
        "distortion",
        f"has the distortion model {message.distortion_model!r} with the coefficients {d.tolist()}; understood are "
        "plumb_bob, rational_polynomial and equidistant, so rectify the images first",
    )


def _region_and_binning(message: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """`(3, 3)` from pixels of the sensor to those of its binned region of interest, and the (height, width) of that."""
    roi, bin_x, bin_y = message.roi, max(1, message.binning_x), max(1, message.binning_y)
    x, y, width, height = roi.x_offset, roi.y_offset, roi.width, roi.height
    if width == 0 or height == 0:
        x, y, width, height = 0, 0, message.width, message.height
    pixel_from_sensor = np.array([[1 / bin_x, 0, -x / bin_x], [0, 1 / bin_y, -y / bin_y], [0, 0, 1]])
    return pixel_from_sensor, (height // bin_y, width // bin_x)


def _uniform_resize(calibrated_hw: tuple[int, int], size_hw: tuple[int, int]) -> np.ndarray:
    """`(3, 3)` scaling from the calibrated to the actual size; both sides may have been rounded to whole pixels.

    A size of 0 is not known and stands for the actual one.
    """
    if 0 in calibrated_hw:
        return np.eye(3)
    (calibrated_h, calibrated_w), (height, width) = calibrated_hw, size_hw
    rounding = 0.5 * (1 + width / height)
    if abs(calibrated_w * height / calibrated_h - width) > rounding:
        raise RefusedMessage(
            "camera_info_size",
            f"CameraInfo is for {calibrated_w}x{calibrated_h} pixels and the image has {width}x{height}; "
            "the sizes must be equal or have one ratio for both sides.",
        )
    return np.diag([width / calibrated_w, height / calibrated_h, 1.0])
