# SPDX-License-Identifier: Apache-2.0
"""Images and calibration of ROS messages to numpy, refused with a reason when they make no sense.

Any object with the fields of `sensor_msgs` will do: the classes of ROS and those of `rosbags` alike. Pixels are copied
as whole buffers, never element by element.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import cv2
import numpy as np

from da3_core.errors import InputError
from da3_core.formats.image_files import TooManyPixelsError, open_image_file

SAMPLE_BITS = (10, 12, 14, 16)
MASK_ENCODINGS = ("mono8", "8uc1")
DEPTH_ENCODINGS = ("16UC1", "32FC1")
JPEG_START, JPEG_SCAN, JPEG_END = 0xFF, 0xDA, b"\xff\xd9"
_PADDED_JPEG = re.compile(r"Corrupt JPEG data: \d extraneous bytes before marker 0xd9")  # cheap cameras do
PNG_HEAD_BYTES, PNG_CHUNK_BYTES, PNG_LAST = 8, 12, b"IEND"  # a chunk has a length, a name and a checksum
COMPRESSED_FORMATS = ("JPEG", "PNG", "WEBP")  # of Pillow
HEAD_BYTES = 1 << 18  # holds the size of a image, after all that cameras write before it

Refusal = Literal[
    "encoding",
    "key_frame",
    "size",
    "step",
    "truncated",
    "undecodable",
    "camera_info",
    "camera_info_size",
    "camera_info_values",
    "camera_info_matrix",
    "camera_info_focal",
    "camera_info_skew",
    "camera_info_centre",
    "camera_info_distortion",
    "stamp",
    "queue_full",
    "unusable",
    "pose",
    "mask",
    "rig_size",
    "reference",
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
    planar_420: bool = False  # a full-size luma plane, then half as many rows of chroma
    padded: bool = True  # rows may be; not where the chroma planes have rows of half the width


def _known_encodings() -> dict[str, _Encoding]:
    encodings = {
        "rgb8": _Encoding("u1", 3, None),
        "bgr8": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
        "rgb16": _Encoding("u2", 3, None),
        "bgr16": _Encoding("u2", 3, cv2.COLOR_BGR2RGB),
        "8UC3": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
        "8UC4": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
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
        "i420": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_I420, planar_420=True, padded=False),
        "yuv420": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_I420, planar_420=True, padded=False),
    }
    for pattern in ("rggb", "bggr", "gbrg", "grbg"):
        to_rgb = getattr(cv2, f"COLOR_Bayer{pattern.upper()}2RGB")
        encodings[f"bayer_{pattern}8"] = _Encoding("u1", 1, to_rgb)
        encodings[f"bayer_{pattern}16"] = _Encoding("u2", 1, to_rgb)
    return encodings


ENCODINGS = _known_encodings()


def encoding_of(message: Any) -> _Encoding | None:
    """How the image is laid out, also where its encoding is in capital letters; None where nothing here knows it."""
    return ENCODINGS.get(message.encoding) or ENCODINGS.get(message.encoding.lower())


class SampleBits:
    """How many bits the 16-bit values of a camera really have, by the largest of all its images so far.

    Args:
        tell: given the sentence when the number is less than 16, and when it changes.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._bits = 0

    def take_in(self, largest: int) -> int:
        """The number, after an image whose largest value is given."""
        bits = next(each for each in SAMPLE_BITS if largest < 1 << each)
        if bits > self._bits:
            self._bits = bits
            if bits < 16:
                self._tell(
                    f"16-bit images have values up to {largest}: they are taken as {bits}-bit data and stretched."
                )
        return self._bits


def image_to_rgb(message: Any, bits: SampleBits | None = None) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of an image message.

    rgb8 without row padding shares the memory of the message. `8UC3` and `8UC4` are taken as BGR and BGRA, OpenCV's
    order.

    Args:
        bits: of the camera's 16-bit values, which are scaled to 8 bits over that range; without it, over 16 bits.

    Raises:
        RefusedMessage: zero size, a `step` or `data` that does not fit the size, an encoding that neither this
            function nor an installed cv_bridge knows.
    """
    check_image(message)
    encoding = encoding_of(message)
    if encoding is None:
        return _rgb_by_cv_bridge(message)
    pixels = _in_8_bits(_pixels(message, encoding), bits)
    return pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)


def _in_8_bits(pixels: np.ndarray, bits: SampleBits | None) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    known = 16 if bits is None else bits.take_in(int(pixels.max()))
    return cv2.convertScaleAbs(pixels, alpha=255 / ((1 << known) - 1))


def check_image(message: Any) -> None:
    """Refuse what can be seen to be wrong without touching a pixel, see `image_to_rgb`."""
    if message.height == 0 or message.width == 0:
        raise RefusedMessage(
            "size", f"The image is {message.width}x{message.height} pixels; publish images with at least one pixel."
        )
    encoding = encoding_of(message)
    if encoding is None:
        if find_spec("cv_bridge") is None:
            raise RefusedMessage("encoding", unknown_encoding(message))
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
    if message.step > row_bytes and not encoding.padded:
        raise RefusedMessage(
            "step",
            f"The {size} has a step of {message.step} bytes; its planes are without padding, a step of {row_bytes}.",
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
        raise RefusedMessage("encoding", unknown_encoding(message)) from error


def unknown_encoding(message: Any) -> str:
    """The sentence about an image that nothing here reads."""
    return (
        f"The image has the encoding '{message.encoding}'; accepted are {', '.join(ENCODINGS)}, "
        "and with cv_bridge (apt install ros-$ROS_DISTRO-cv-bridge) whatever it converts to rgb8."
    )


def mask_of(message: Any) -> np.ndarray:
    """`(H, W)` bool of a mono8 or 8UC1 message: where it is not 0. Raises RefusedMessage as `image_to_rgb`."""
    check_image(message)
    encoding = encoding_of(message)
    if encoding is None or message.encoding.lower() not in MASK_ENCODINGS:
        raise RefusedMessage("mask", f"The mask has the encoding '{message.encoding}'; accepted is mono8.")
    return _pixels(message, encoding) > 0


def compressed_to_rgb(message: Any, bits: SampleBits | None = None) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of a JPEG, PNG or WebP message; EXIF rotation is ignored, as cameras and CameraInfo do.

    Args:
        bits: as in `image_to_rgb`, for PNG of 16 bits.

    Raises:
        RefusedMessage: none of the three, depth (`compressedDepth`, `16UC1`), cut off, or not decodable.
    """
    compressed_size(message)
    data = np.frombuffer(message.data, np.uint8)
    if data[0] == JPEG_START:
        return _jpeg_to_rgb(message)
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        bgr = None
    if bgr is None:
        raise RefusedMessage("undecodable", _damaged(message))
    return cv2.cvtColor(_in_8_bits(bgr, bits), cv2.COLOR_BGR2RGB)


def compressed_size(message: Any) -> tuple[int, int]:
    """Height and width of a compressed message, from its head alone; refused as in `compressed_to_rgb`."""
    data = np.frombuffer(message.data, np.uint8).data
    is_depth = "compressedDepth" in message.format or message.format.startswith(DEPTH_ENCODINGS)
    head = bytes(data[:12])
    is_whole = next((check for begin, check in _PICTURES if not is_depth and begin.match(head)), None)
    if is_whole is None:
        raise RefusedMessage(
            "encoding",
            f"The compressed image has the format '{message.format}'; accepted are jpeg, png and webp images.",
        )
    if not is_whole(data):
        raise RefusedMessage(
            "truncated", f"The compressed image breaks off after {data.nbytes} bytes; look for losses on its way."
        )
    try:
        with open_image_file(io.BytesIO(data[:HEAD_BYTES]), COMPRESSED_FORMATS) as image:
            width, height = image.size
    except TooManyPixelsError as error:
        raise RefusedMessage("size", f"The compressed image is too large: {error.strerror}.") from error
    except OSError as error:
        raise RefusedMessage("undecodable", _damaged(message)) from error
    return height, width


def _jpeg_to_rgb(message: Any) -> np.ndarray:
    """Pixels of a JPEG that says them all. Other decoders paint over what is damaged, and tell nobody."""
    import simplejpeg

    content = bytes(message.data)
    if not _has_jpeg_end(content):
        content += JPEG_END
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, "RGB"))
    except ValueError as error:
        if not _PADDED_JPEG.fullmatch(str(error)):
            raise RefusedMessage("undecodable", f"{_damaged(message)[:-1]}: {error}.") from error
    return np.asarray(simplejpeg.decode_jpeg(content, "RGB", strict=False))


def _is_whole_jpeg(data: memoryview) -> bool:
    """Whether its end marker is there, which some cameras leave out and others pad; else, whether all pixels are."""
    import simplejpeg

    content = data.tobytes()
    if _has_jpeg_end(content):
        return True
    try:
        simplejpeg.decode_jpeg(content + JPEG_END, "GRAY")
    except ValueError:
        return False
    return True


def _has_jpeg_end(content: bytes) -> bool:
    """Whether the end is marked. The segments before the pixels may hold a small image with an end of its own."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != JPEG_SCAN:
        at += 1 if content[at + 1] == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(JPEG_END, at) >= 0


def _is_whole_png(data: memoryview) -> bool:
    """Whether its chunks follow each other up to the last one; decoders make room for any length that a chunk tells."""
    at = PNG_HEAD_BYTES
    while at + PNG_CHUNK_BYTES <= data.nbytes:
        if data[at + 4 : at + 8] == PNG_LAST:
            return True
        at += PNG_CHUNK_BYTES + int.from_bytes(data[at : at + 4], "big")
    return False


def _is_whole_webp(data: memoryview) -> bool:
    return data.nbytes >= 8 + int.from_bytes(data[4:8], "little")


_PICTURES: tuple[tuple[re.Pattern[bytes], Callable[[memoryview], bool]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _is_whole_jpeg),
    (re.compile(rb"\x89PNG"), _is_whole_png),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _is_whole_webp),
)


def _damaged(message: Any) -> str:
    return f"The compressed image ('{message.format}', {len(message.data)} bytes) is damaged."
