# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs to numpy and back: images, camera calibration and stamps, refused with a reason when they make no sense.

Pixels are copied as whole buffers, never element by element. Clouds are in `clouds`.
"""

import io
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import cv2
import numpy as np
import PIL.Image
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from da3_core.errors import InputError

HALF_PIXEL = 0.5  # ROS counts from the centre of the first pixel, da3_core from its edge
HEAD_BYTES = 1 << 18  # holds the size of a picture, after all that cameras write before it

Refusal = Literal[
    "encoding", "size", "step", "truncated", "undecodable", "camera_info", "camera_info_size", "stamp", "queue_full"
]


class RefusedMessage(InputError):
    """A message that cannot be used. `kind` is its short name in counters and logs."""

    def __init__(self, kind: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class _Encoding:
    """How the bytes of an image are laid out: type and channels of a pixel, and OpenCV's conversion to RGB."""

    dtype: str
    channels: int
    to_rgb: int | None
    planar_420: bool = False  # a full-size luma plane, then a half-height plane of interleaved chroma


def _known_encodings() -> dict[str, _Encoding]:
    encodings = {
        "rgb8": _Encoding("u1", 3, None),
        "bgr8": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
        "8UC3": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
        "rgba8": _Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
        "bgra8": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
        "mono8": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
        "8UC1": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
        "mono16": _Encoding("u2", 1, cv2.COLOR_GRAY2RGB),
        "yuv422": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
        "uyvy": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
        "yuv422_yuy2": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
        "yuyv": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
        "nv12": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_NV12, planar_420=True),
        "nv21": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_NV21, planar_420=True),
    }
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        to_rgb = getattr(cv2, f"COLOR_Bayer{pattern.upper()}2RGB")
        encodings[f"bayer_{pattern}8"] = _Encoding("u1", 1, to_rgb)
        encodings[f"bayer_{pattern}16"] = _Encoding("u2", 1, to_rgb)
    return encodings


ENCODINGS = _known_encodings()


def stamp_ns(stamp: Time) -> int:
    """Integer nanoseconds of a stamp."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def to_stamp(nanoseconds: int) -> Time:
    """The stamp of integer nanoseconds."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def image_to_rgb(message: Image) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of an image message.

    rgb8 without row padding shares the memory of the message. 16-bit values are scaled to 8 bits over their whole
    range. `8UC3` is taken as BGR, OpenCV's order.

    Raises:
        RefusedMessage: zero size, a `step` or `data` that does not fit the size, an encoding that neither this
            function nor an installed cv_bridge knows.
    """
    check_image(message)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        return _rgb_by_cv_bridge(message)
    pixels = _pixels(message, encoding)
    if pixels.dtype != np.uint8:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    return pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)


def check_image(message: Image) -> None:
    """Refuse what can be seen to be wrong without touching a pixel, see `image_to_rgb`."""
    if message.height == 0 or message.width == 0:
        raise RefusedMessage(
            "size", f"The image is {message.width}x{message.height} pixels; publish images with at least one pixel."
        )
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        if find_spec("cv_bridge") is None:
            raise RefusedMessage("encoding", _unknown_encoding(message))
        return
    rows, row_bytes = _layout(message, encoding)
    size = f"{message.width}x{message.height} {message.encoding} image"
    subsampled_rows = encoding.planar_420 and message.height % 2
    if (encoding.planar_420 or encoding.channels == 2) and (message.width % 2 or subsampled_rows):
        raise RefusedMessage("size", f"The {size} shares its colours between pixels and needs even sides.")
    if message.step < row_bytes:
        raise RefusedMessage(
            "step",
            f"The {size} has a step of {message.step} bytes; a row needs at least {row_bytes}, correct the driver.",
        )
    expected = message.step * rows
    if len(message.data) < expected:
        raise RefusedMessage(
            "truncated",
            f"The {size} carries {len(message.data)} bytes of data; its step of {message.step} and {rows} rows need "
            f"{expected}, correct the driver.",
        )


def _layout(message: Image, encoding: _Encoding) -> tuple[int, int]:
    """Rows in the buffer, and bytes of a row without padding."""
    row_bytes = message.width * encoding.channels * np.dtype(encoding.dtype).itemsize
    return message.height * 3 // 2 if encoding.planar_420 else message.height, row_bytes


def _pixels(message: Image, encoding: _Encoding) -> np.ndarray:
    """`(rows, W, channels)`, or `(rows, W)` for one channel, in native byte order and without row padding."""
    rows, row_bytes = _layout(message, encoding)
    buffer = np.frombuffer(message.data, np.uint8, count=message.step * rows)
    table = buffer.reshape(rows, message.step)[:, :row_bytes]
    byte_order = ">" if message.is_bigendian else "<"
    values = np.ascontiguousarray(table).view(byte_order + encoding.dtype).astype(encoding.dtype, copy=False)
    return values if encoding.channels == 1 else values.reshape(rows, message.width, encoding.channels)


def _rgb_by_cv_bridge(message: Image) -> np.ndarray:
    try:
        from cv_bridge import CvBridge

        return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # absent, or any of the many errors that it raises
        raise RefusedMessage("encoding", _unknown_encoding(message)) from error


def _unknown_encoding(message: Image) -> str:
    return (
        f"The image has the encoding '{message.encoding}'; accepted are {', '.join(ENCODINGS)}, "
        "and with cv_bridge (apt install ros-$ROS_DISTRO-cv-bridge) whatever it converts to rgb8."
    )


def compressed_to_rgb(message: CompressedImage) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a JPEG or PNG message; EXIF rotation is ignored, as cameras and CameraInfo do.

    Raises:
        RefusedMessage: neither JPEG nor PNG (`compressedDepth` is not a picture), cut off, or not decodable.
    """
    compressed_size(message)
    data = np.frombuffer(message.data, np.uint8)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise RefusedMessage("undecodable", _damaged(message))
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def compressed_size(message: CompressedImage) -> tuple[int, int]:
    """Height and width of a JPEG or PNG message, from its head alone; refused as in `compressed_to_rgb`."""
    data = np.frombuffer(message.data, np.uint8)
    head, tail = data[:8].tobytes(), data[-1024:].tobytes()
    if "compressedDepth" in message.format or not head.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        raise RefusedMessage(
            "encoding", f"The compressed image has the format '{message.format}'; accepted are jpeg and png pictures."
        )
    if (b"\xff\xd9" if head.startswith(b"\xff") else b"IEND") not in tail:
        raise RefusedMessage(
            "truncated", f"The compressed image breaks off after {data.size} bytes; look for losses on its way."
        )
    try:
        width, height = PIL.Image.open(io.BytesIO(data[:HEAD_BYTES])).size
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise RefusedMessage("undecodable", _damaged(message)) from error
    return height, width


def _damaged(message: CompressedImage) -> str:
    return f"The compressed image ('{message.format}', {len(message.data)} bytes) is damaged."


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
    millimetres = np.rint(depth_m.astype(np.float32, copy=False) * np.float32(1000))
    representable = (millimetres > 0) & (millimetres <= np.iinfo(np.uint16).max)
    return image_message(header, np.where(representable, millimetres, np.float32(0)).astype(np.uint16), "16UC1")


def confidence_message(header: Header, confidence: np.ndarray) -> Image:
    """`(H, W)` confidence, at least 1 and higher is better, as 32FC1."""
    return image_message(header, confidence.astype(np.float32, copy=False), "32FC1")


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


def camera_info_message(header: Header, intrinsics: np.ndarray, size_hw: tuple[int, int]) -> CameraInfo:
    """The calibration of an undistorted `size_hw` image from `(3, 3)` intrinsics with pixel edges at integers."""
    height, width = size_hw
    fx, skew, cx, fy, cy = (float(intrinsics[i]) for i in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
    cx, cy = cx - HALF_PIXEL, cy - HALF_PIXEL
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, skew, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, skew, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def intrinsics_from_camera_info(message: CameraInfo, size_hw: tuple[int, int]) -> np.ndarray | None:
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
    return _uniform_resize(calibrated_hw, size_hw) @ pixel_from_sensor @ intrinsics


def _bad_calibration(reason: str) -> RefusedMessage:
    return RefusedMessage("camera_info", f"CameraInfo {reason}.")


def _region_and_binning(message: CameraInfo) -> tuple[np.ndarray, tuple[int, int]]:
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
