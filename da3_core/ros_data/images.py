# SPDX-License-Identifier: Apache-2.0
"""Images and calibration of ROS messages to numpy, refused with a reason when they make no sense.

Any object with the fields of `sensor_msgs` will do: the classes of ROS and those of `rosbags` alike. Pixels are copied
as whole buffers, never element by element.
"""

import io
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import cv2
import numpy as np
import PIL.Image

from da3_core.errors import InputError

HEAD_BYTES = 1 << 18  # holds the size of a picture, after all that cameras write before it

Refusal = Literal[
    "encoding",
    "size",
    "step",
    "truncated",
    "undecodable",
    "camera_info",
    "camera_info_size",
    "stamp",
    "queue_full",
    "pose",
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


def image_to_rgb(message: Any) -> np.ndarray:
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


def check_image(message: Any) -> None:
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


def _layout(message: Any, encoding: _Encoding) -> tuple[int, int]:
    """Rows in the buffer, and bytes of a row without padding."""
    row_bytes = message.width * encoding.channels * np.dtype(encoding.dtype).itemsize
    return message.height * 3 // 2 if encoding.planar_420 else message.height, row_bytes


def _pixels(message: Any, encoding: _Encoding) -> np.ndarray:
    """`(rows, W, channels)`, or `(rows, W)` for one channel, in native byte order and without row padding."""
    rows, row_bytes = _layout(message, encoding)
    buffer = np.frombuffer(message.data, np.uint8, count=message.step * rows)
    table = buffer.reshape(rows, message.step)[:, :row_bytes]
    byte_order = ">" if message.is_bigendian else "<"
    values = np.ascontiguousarray(table).view(byte_order + encoding.dtype).astype(encoding.dtype, copy=False)
    return values if encoding.channels == 1 else values.reshape(rows, message.width, encoding.channels)


def _rgb_by_cv_bridge(message: Any) -> np.ndarray:
    try:
        return np.asarray(import_module("cv_bridge").CvBridge().imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # absent, or any of the many errors that it raises
        raise RefusedMessage("encoding", _unknown_encoding(message)) from error


def _unknown_encoding(message: Any) -> str:
    return (
        f"The image has the encoding '{message.encoding}'; accepted are {', '.join(ENCODINGS)}, "
        "and with cv_bridge (apt install ros-$ROS_DISTRO-cv-bridge) whatever it converts to rgb8."
    )


def compressed_to_rgb(message: Any) -> np.ndarray:
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


def compressed_size(message: Any) -> tuple[int, int]:
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
        width, height = PIL.Image.open(io.BytesIO(data[:HEAD_BYTES].tobytes())).size
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise RefusedMessage("undecodable", _damaged(message)) from error
    return height, width


def _damaged(message: Any) -> str:
    return f"The compressed image ('{message.format}', {len(message.data)} bytes) is damaged."
