# SPDX-License-Identifier: Apache-2.0
"""Encodings against pixels worked out by hand, refusals, calibration against geometry."""

import array

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs ROS 2 messages")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from da3_core.errors import InputError
from da3_core.ros_data import values
from da3_core.ros_data.camera_info import camera_info, intrinsics_from_camera_info
from da3_core.ros_data.conventions import depth_in_millimetres, publishable_depth, stamp_ns
from da3_core.ros_data.images import RefusedMessage, SampleBits, compressed_to_rgb, image_to_rgb
from da3_ros.messages import packed

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
COLOURS = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)  # (2, 2, 3)


HEADER = values.header(1_700_000_000_123_456_789, "camera_optical")


def image(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """A message built from its definition alone: rows of bytes, padded, in the given byte order."""
    rows = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<")))
    height, width = pixels.shape[:2]
    table = np.pad(rows.reshape(height, -1).view(np.uint8), ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=height, width=width, encoding=encoding, step=table.shape[1], is_bigendian=int(big_endian))
    message.data = array.array("B", table.tobytes())
    return message


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("8UC3", [2, 1, 0]), ("rgba8", [0, 1, 2, 0]), ("bgra8", [2, 1, 0, 0])],
)
def test_colour_encodings_keep_every_pixel(encoding, order, padding):
    assert np.array_equal(image_to_rgb(image(COLOURS[..., order], encoding, padding)), COLOURS)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_encodings_repeat_the_value(encoding, padding):
    grey = np.array([[0, 7, 200], [1, 128, 255]], np.uint8)
    assert np.array_equal(image_to_rgb(image(grey, encoding, padding)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("big_endian", [False, True])
def test_mono16_is_scaled_over_its_whole_range_in_both_byte_orders(big_endian):
    grey = np.array([[0, 1000, 65279], [65535, 0x1234, 129]], np.uint16)
    expected = np.array([[0, 4, 254], [255, 18, 1]], np.uint8)  # divided by 257
    assert np.array_equal(image_to_rgb(image(grey, "mono16", 2, big_endian))[..., 1], expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize(("bits", "full"), [("8", np.uint8(255)), ("16", np.uint16(65535))])
def test_bayer_patterns_give_the_colour_that_lit_the_mosaic(pattern, bits, full):
    for channel, colour in zip("rgb", (RED, GREEN, BLUE), strict=True):
        tile = np.array([full if letter == channel else full * 0 for letter in pattern], full.dtype).reshape(2, 2)
        mosaic = np.tile(tile, (8, 8))
        assert np.array_equal(image_to_rgb(image(mosaic, f"bayer_{pattern}{bits}"))[8, 8], colour)


def luma_chroma(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """ITU-R BT.601, studio range."""
    r, g, b = (value / 255 for value in rgb)
    luma = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    blue = 128 - 37.797 * r - 74.203 * g + 112 * b
    red = 128 + 112 * r - 93.786 * g - 18.214 * b
    return round(luma), round(blue), round(red)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE])
def test_yuv_encodings(encoding, colour, padding):
    y, u, v = luma_chroma(colour)
    if encoding.startswith("nv"):
        rows = np.vstack([np.full((4, 6), y), np.tile([u, v] if encoding == "nv12" else [v, u], (2, 3))])
        message = image(rows.astype(np.uint8), encoding, padding)
        message.height = 4
    else:
        pair = [[y, u], [y, v]] if encoding in ("yuv422_yuy2", "yuyv") else [[u, y], [v, y]]
        message = image(np.tile(np.array(pair, np.uint8), (4, 3, 1)), encoding, padding)
    rgb = image_to_rgb(message)
    assert rgb.shape == (4, 6, 3)
    assert np.abs(rgb.astype(int) - colour).max() <= 3


def test_an_unpadded_rgb_image_is_not_copied():
    message = image(COLOURS, "rgb8")
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, np.uint8))


def broken(**changes) -> Image:
    message = image(COLOURS, "rgb8")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        (broken(encoding="32FC4"), "encoding", ["32FC4", "rgb8", "bayer_grbg8", "nv21", "cv-bridge"]),
        (broken(data=array.array("B", bytes(11))), "truncated", ["11 bytes", "12"]),
        (broken(data=array.array("B")), "truncated", ["0 bytes"]),
        (broken(step=5), "step", ["step of 5", "at least 6"]),
        (broken(step=7), "truncated", ["12 bytes", "14"]),
        (broken(width=0), "size", ["0x2"]),
        (broken(height=0), "size", ["2x0"]),
        (broken(encoding="nv12", step=2, height=3), "size", ["2x3", "even"]),
        (broken(encoding="i420", step=4), "step", ["without padding"]),
        (broken(encoding="uyvy", width=1, step=2), "size", ["1x2", "even"]),
    ],
)
def test_refused_images_say_what_came_and_what_is_accepted(message, kind, said):
    with pytest.raises(RefusedMessage) as refusal:
        image_to_rgb(message)
    assert isinstance(refusal.value, InputError)
    assert refusal.value.kind == kind
    for words in said:
        assert words in str(refusal.value)


def compressed(extension: str, pixels: np.ndarray = COLOURS, fmt: str = "") -> CompressedImage:
    ok, data = cv2.imencode(extension, pixels[..., ::-1])
    assert ok
    return CompressedImage(format=fmt or f"rgb8; {extension[1:]} compressed bgr8", data=data.tobytes())


def test_compressed_pictures():
    assert np.array_equal(compressed_to_rgb(compressed(".png")), COLOURS)
    plain = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    decoded = compressed_to_rgb(compressed(".jpg", plain))
    assert decoded.shape == plain.shape
    assert np.abs(decoded.astype(int) - plain).max() <= 4


def with_thumbnail(jpeg: bytes) -> bytes:
    """A JPEG that holds a small one, as cameras write them."""
    small = b"Exif\0\0" + cv2.imencode(".jpg", COLOURS)[1].tobytes()
    return jpeg[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + jpeg[2:]


@pytest.mark.parametrize("colours", ["smooth", "noise"])
@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_jpeg_is_whole_when_its_pixels_are_whatever_comes_behind_them(colours, options):
    pixels = np.random.default_rng(2).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    if colours == "smooth":
        pixels = cv2.GaussianBlur(pixels, (0, 0), 9)
    jpeg = cv2.imencode(".jpg", pixels, options)[1].tobytes()
    decoded = compressed_to_rgb(CompressedImage(format="jpeg", data=jpeg))
    for data in (jpeg + bytes(5000), jpeg + b"\xff" * 700, jpeg[:-2], with_thumbnail(jpeg), with_thumbnail(jpeg)[:-2]):
        assert np.array_equal(compressed_to_rgb(CompressedImage(format="jpeg", data=data)), decoded)
    if not options:  # of a progressive one, less is a coarser picture
        for cut in (jpeg[: len(jpeg) * 9 // 10], with_thumbnail(jpeg)[: -len(jpeg) // 3]):
            with pytest.raises(RefusedMessage, match="breaks off"):
                compressed_to_rgb(CompressedImage(format="jpeg", data=cut))


def test_webp_pictures():
    message = compressed(".webp", np.full((16, 24, 3), (200, 40, 90), np.uint8))
    assert np.abs(compressed_to_rgb(message).astype(int) - (200, 40, 90)).max() <= 8


@pytest.mark.parametrize(("largest", "bits"), [(1000, 10), (4095, 12), (9000, 14), (60000, 16)])
def test_values_of_fewer_bits_are_stretched_and_that_is_said(largest, bits):
    told = []
    known = SampleBits(told.append)
    grey = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    expected = np.rint(grey * (255 / (2**bits - 1)))
    for encoding in ("mono16", "rgb16"):
        pixels = grey if encoding == "mono16" else np.repeat(grey[..., None], 3, axis=2)
        assert np.array_equal(image_to_rgb(image(pixels, encoding), known)[..., 1], expected)
    png = CompressedImage(format="mono16; png compressed", data=cv2.imencode(".png", grey)[1].tobytes())
    assert np.array_equal(compressed_to_rgb(png, known)[..., 1], expected)
    image_to_rgb(image(grey // 8, "mono16"), known)  # a dark image does not change the camera
    assert len(told) == (bits < 16)
    assert not told or f"{bits}-bit data" in told[0]


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
def test_cut_off_pictures_are_refused(extension):
    message = compressed(extension, np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    message.data = message.data[: len(message.data) * 2 // 3]
    with pytest.raises(RefusedMessage, match="breaks off") as refusal:
        compressed_to_rgb(message)
    assert refusal.value.kind == "truncated"


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_damaged_pictures_are_refused_or_decoded_but_nothing_else(extension):
    rng = np.random.default_rng(1)
    whole = compressed(extension, rng.integers(0, 255, (40, 56, 3), dtype=np.uint8))
    refused = 0
    for _ in range(150):
        message = CompressedImage(format=whole.format, data=whole.data)
        for place in rng.integers(4, len(whole.data), 3):
            message.data[place] = int(rng.integers(0, 256))
        try:
            assert compressed_to_rgb(message).ndim == 3
        except RefusedMessage:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "message",
    [
        CompressedImage(format="jpeg", data=b""),
        CompressedImage(format="bmp", data=b"BMxxxxxxxxxxxxxx"),
        compressed(".png", fmt="16UC1; compressedDepth png"),
        compressed(".png", fmt="16UC1; png compressed "),
    ],
)
def test_other_compressed_data_is_refused(message):
    with pytest.raises(RefusedMessage, match="jpeg, png and webp") as refusal:
        compressed_to_rgb(message)
    assert message.format in str(refusal.value)


def test_stamps_are_integers_both_ways():
    for nanoseconds in (0, 1, 999_999_999, 1_700_000_000_123_456_789):
        assert stamp_ns(packed(values.time(nanoseconds))) == nanoseconds
    assert packed(values.time(1_700_000_000_123_456_789)).nanosec == 123_456_789


def test_published_images_round_trip():
    transposed = COLOURS.transpose(1, 0, 2)  # not contiguous
    message = packed(values.image(HEADER, transposed, "rgb8"))
    assert (message.encoding, message.step, message.height, message.width) == ("rgb8", 6, 2, 2)
    assert message.header.stamp.nanosec == 123_456_789
    assert message.header.frame_id == "camera_optical"
    assert np.array_equal(image_to_rgb(message), transposed)


def test_millimetres_follow_rep_118():
    depth = np.array([[1.2344, np.nan, np.inf], [0.0004, 65.5351, -1.0], [65.536, 0.0, 3.0]])
    assert depth_in_millimetres(depth).ravel().tolist() == [1234, 0, 0, 0, 65535, 0, 0, 0, 3000]


def test_publishable_depth_marks_sky_and_what_is_not_trusted():
    depth = np.array([[1.0, 2.0, 3.0, 0.0, -2.0, np.inf]])
    confidence = np.array([[1.5, 1.0, np.nan, 9.0, 9.0, 9.0]])
    sky = np.array([[False, False, False, False, False, True]])
    result = publishable_depth(depth, confidence, sky, confidence_floor=1.2)
    assert np.array_equal(result, [[1.0, np.nan, np.nan, np.nan, np.nan, np.inf]], equal_nan=True)
    assert depth[0, 1] == 2.0


INTRINSICS = np.array([[500.0, 0, 320.0], [0, 510.0, 240.0], [0, 0, 1]])


def test_camera_info_counts_from_pixel_centres():
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    assert message.k.tolist() == [500, 0, 319.5, 0, 510, 239.5, 0, 0, 1]
    assert message.p.tolist() == [500, 0, 319.5, 0, 0, 510, 239.5, 0, 0, 0, 1, 0]
    assert (message.height, message.width, message.distortion_model) == (480, 640, "plumb_bob")
    assert list(message.d) == [0.0] * 5
    assert message.r.tolist() == np.eye(3).ravel().tolist()
    assert np.array_equal(intrinsics_from_camera_info(message, (480, 640)), INTRINSICS)


@pytest.mark.parametrize("size_hw", [(240, 320), (960, 1280), (361, 481)])
def test_camera_info_of_a_resized_stream_is_scaled(size_hw):
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    scaled = intrinsics_from_camera_info(message, size_hw)
    assert np.allclose(scaled, np.diag([size_hw[1] / 640, size_hw[0] / 480, 1]) @ INTRINSICS)


def test_camera_info_with_region_and_binning():
    """A point at sensor pixel (420, 300) lies (420-100)/2, (300-60)/3 in the binned region."""
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 60, 400, 300
    message.binning_x, message.binning_y = 2, 3
    intrinsics = intrinsics_from_camera_info(message, (100, 200))
    point = np.linalg.inv(INTRINSICS) @ [420, 300, 1]
    assert np.allclose(intrinsics @ point, [160, 80, 1])


def test_uncalibrated_camera_info_gives_nothing():
    assert intrinsics_from_camera_info(CameraInfo(width=640, height=480), (480, 640)) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": [np.nan, 0.0, 1.0, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0]}, "finite"),
        ({"k": [5.0, 0.0, np.inf, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0]}, "finite"),
        ({"k": [-5.0, 0.0, 1.0, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0]}, "positive"),
        ({"k": [5.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]}, "positive"),
        ({"d": [0.1, 0.0, 0.0, 0.0, 0.0]}, "image_proc"),
        ({"width": 640, "height": 360}, "640x360 pixels and the image has 640x480"),
        ({"width": 0, "height": 0}, "0x0 pixels and the image has 640x480"),
    ],
)
def test_impossible_camera_info_is_refused(changes, said):
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(RefusedMessage, match=said) as refusal:
        intrinsics_from_camera_info(message, (480, 640))
    assert refusal.value.kind == ("camera_info_size" if "width" in changes else "camera_info")


def test_agrees_with_cv_bridge():
    cv_bridge = pytest.importorskip("cv_bridge")
    bridge = cv_bridge.CvBridge()
    mosaic = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    for encoding in ("mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"):
        message = image(mosaic, encoding)
        assert np.array_equal(image_to_rgb(message), bridge.imgmsg_to_cv2(message, "rgb8"))
