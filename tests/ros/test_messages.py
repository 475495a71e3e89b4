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
from da3_core.ros_data.camera_info import ImageCalibration, camera_info, image_camera, named_rectified, stereo_place
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
    if not options:  # of a progressive one, less is a coarser image
        for cut in (jpeg[: len(jpeg) * 9 // 10], with_thumbnail(jpeg)[: -len(jpeg) // 3]):
            with pytest.raises(RefusedMessage, match="breaks off"):
                compressed_to_rgb(CompressedImage(format="jpeg", data=cut))


def test_jpeg_damaged_in_the_middle_is_refused_with_the_reason():
    rng = np.random.default_rng(3)
    pixels = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), (0, 0), 2)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    middle = len(jpeg) // 2
    with pytest.raises(RefusedMessage, match=r"damaged: Corrupt JPEG data: .+\.$") as refusal:
        compressed_to_rgb(CompressedImage(format="jpeg", data=jpeg[:middle] + jpeg[middle + 100 :]))
    assert refusal.value.kind == "undecodable"

    padded = CompressedImage(format="jpeg", data=jpeg[:-2] + bytes(3) + jpeg[-2:])  # as cheap cameras write them
    assert np.array_equal(compressed_to_rgb(padded), compressed_to_rgb(CompressedImage(format="jpeg", data=jpeg)))


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
    assert np.array_equal(image_camera(message, (480, 640)).intrinsics, INTRINSICS)


@pytest.mark.parametrize("size_hw", [(240, 320), (960, 1280), (361, 481)])
def test_camera_info_of_a_resized_stream_is_scaled(size_hw):
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    scaled = image_camera(message, size_hw).intrinsics
    assert np.allclose(scaled, np.diag([size_hw[1] / 640, size_hw[0] / 480, 1]) @ INTRINSICS)


def test_camera_info_with_region_and_binning():
    """A point at sensor pixel (420, 300) lies (420-100)/2, (300-60)/3 in the binned region."""
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = 100, 60, 400, 300
    message.binning_x, message.binning_y = 2, 3
    intrinsics = image_camera(message, (100, 200)).intrinsics
    point = np.linalg.inv(INTRINSICS) @ [420, 300, 1]
    assert np.allclose(intrinsics @ point, [160, 80, 1])


def test_uncalibrated_camera_info_gives_nothing():
    assert image_camera(CameraInfo(width=640, height=480), (480, 640)) is None


def k(fx=500.0, fy=510.0, cx=319.5, cy=239.5, skew=0.0, corner=1.0, lower_left=0.0) -> list[float]:
    return [fx, skew, cx, lower_left, fy, cy, 0.0, 0.0, corner]


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"k": k(fx=np.nan)}, "values", "NaN or infinity"),
        ({"k": k(cx=np.inf)}, "values", "NaN or infinity"),
        ({"d": [np.nan, 0.0, 0.0, 0.0, 0.0]}, "values", "as D, which must be finite"),
        ({"k": k(fx=-5)}, "focal", "must be positive"),
        ({"k": k(fy=0)}, "focal", "must be positive"),
        ({"k": k(fy=1500)}, "focal", "differ by more than a factor of 2.5"),
        ({"k": k(corner=0)}, "matrix", "lower left that is not 0, 0 0 1"),
        ({"k": k(lower_left=3)}, "matrix", "lower left"),
        ({"k": k(skew=40)}, "skew", "a skew of 40"),
        ({"k": k(cx=5000)}, "centre", r"principal point \(5000.5, 240\), far outside of 640x480 pixels"),
        ({"k": k(cy=-800)}, "centre", "far outside"),
        ({"d": [0.1, 0.0], "distortion_model": "plumb_bob"}, "distortion", "understood are plumb_bob, rational_poly"),
        ({"d": [0.1] * 4, "distortion_model": "mei"}, "distortion", "model 'mei'"),
        ({"d": [0.0] * 12 + [0.1, 0.0], "distortion_model": "rational_polynomial"}, "distortion", "understood are"),
        ({"d": [-300.0, 0.0, 0.0, 0.0, 0.0]}, "distortion", "folds the image"),
        ({"width": 640, "height": 360}, "size", "640x360 pixels and the image has 640x480"),
    ],
)
def test_impossible_camera_info_is_refused_with_the_reason(changes, kind, said):
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(RefusedMessage, match=said) as refusal:
        image_camera(message, (480, 640))
    assert refusal.value.kind == f"camera_info_{kind}"
    assert str(refusal.value).startswith("CameraInfo ")


@pytest.mark.parametrize("size", [(0, 0), (640, 0)])
def test_a_size_of_zero_is_unknown_and_no_other_shape(size):
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    message.width, message.height = size
    assert np.array_equal(image_camera(message, (480, 640)).intrinsics, INTRINSICS)


OF_RECTIFIED = [450.0, 0.0, 330.0, 0.0, 0.0, 455.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0]
P = np.array([[450, 0, 330.5], [0, 455, 250.5], [0, 0, 1]])
TURNED = cv2.Rodrigues(np.array([0, 0.02, 0]))[0]


def lens(**changes) -> CameraInfo:
    message = packed(camera_info(HEADER, INTRINSICS, (480, 640)))
    message.d, message.p = [-0.3, 0.1, 0.001, 0.0, 0.0], OF_RECTIFIED
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_a_raw_image_becomes_that_of_the_camera_in_p():
    """What OpenCV's own maps make of it."""
    message = lens()
    camera = image_camera(message, (480, 640))
    assert np.array_equal(camera.intrinsics, P)
    raw = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), (0, 0), 3)
    k_raw, d, k_new = np.reshape(message.k, (3, 3)), np.array(message.d), np.reshape(message.p, (3, 4))[:, :3]
    maps = cv2.initUndistortRectifyMap(k_raw, d, None, k_new, (640, 480), cv2.CV_32FC1)
    expected = cv2.remap(raw, *maps, cv2.INTER_LINEAR).astype(int)
    shown = cv2.remap(np.full_like(raw, 255), *maps, cv2.INTER_LINEAR) == 255
    assert shown.mean() > 0.9
    assert np.abs(camera.rectified(raw).astype(int) - expected)[shown].max() <= 1


@pytest.mark.parametrize(
    "changes",
    [{"r": TURNED.ravel()}, {"p": [0.0] * 12}, {"p": [np.nan] * 12}, {"p": [*OF_RECTIFIED[:10], 0.0, 0.0]}],
)
def test_where_p_is_no_camera_of_the_same_axes_the_field_of_view_is_kept_as_alpha_says(changes):
    white = np.full((480, 640, 3), 255, np.uint8)
    filled, whole = (image_camera(lens(**changes), (480, 640), alpha=alpha) for alpha in (0.0, 1.0))
    assert filled.rectified(white).min() == 255
    assert whole.rectified(white).min() == 0
    assert whole.kept > 0.999 > filled.kept
    assert whole.intrinsics[0, 0] < filled.intrinsics[0, 0]


@pytest.mark.parametrize(
    ("model", "d"),
    [
        ("plumb_bob", [-0.3, 0.1, 1e-3, 2e-3, 0.01]),
        ("rational_polynomial", [0.4, -0.1, 1e-3, 1e-3, 0.02, 0.5, 0.1, 0.01]),
        ("equidistant", [0.1, -0.02, 0.003, -0.001]),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_every_distortion_model_of_ros_is_rectified_as_opencv_projects(model, d, half):
    """Points of a plane, projected by OpenCV into the raw image, whole or of half the size."""
    camera = image_camera(lens(distortion_model=model, d=d), (240, 320) if half else (480, 640))
    scale = 0.5 if half else 1.0
    x, y = np.random.default_rng(0).uniform(-0.45, 0.45, (2, 200))
    points, k_raw = np.stack([x, y, np.ones(200)], -1)[:, None], INTRINSICS - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    raw = project(points, np.zeros(3), np.zeros(3), k_raw, np.array(d))[0].reshape(-1, 2) + 0.5
    u, v, _ = camera.intrinsics @ np.stack([x, y, np.ones(200)])
    assert np.abs(np.stack(camera.rectify.seen_at(u, v), -1) - scale * raw).max() < 0.01
    assert np.allclose(camera.intrinsics, np.diag([scale, scale, 1]) @ P)


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant", "rational_polynomial", ""])
def test_tiny_distortion_is_none(model):
    camera = image_camera(lens(distortion_model=model, d=[1e-9, -1e-9, 0.0, 1e-10], p=[0.0] * 12), (480, 640))
    assert camera.rectify is None
    assert np.array_equal(camera.intrinsics, INTRINSICS)


@pytest.mark.parametrize(
    ("topic", "choice", "expected"),
    [
        ("/left/image_rect", "auto", True),
        ("/left/image_rect_color/compressed", "auto", True),
        ("/zed/rgb/color/rect/image", "auto", True),
        ("/cam/image_rectified", "auto", True),
        ("/direct/image_raw", "auto", None),
        ("/rectangle/image", "auto", None),
        ("/left/image_rect", "no", False),
        ("/left/image_raw", "yes", True),
    ],
)
def test_rectified_images_are_known_by_name_unless_it_is_said(topic, choice, expected):
    assert named_rectified(topic, choice) is expected


@pytest.mark.parametrize("d", [[-0.3, 0.1, 0.0, 0.0, 0.0], [0.0] * 5, []])
def test_a_rectified_image_has_the_camera_of_p_whatever_k_and_d_say(d):
    message = lens(d=d, r=TURNED.ravel(), k=k(corner=0))
    camera = ImageCalibration("/left/image_rect", "auto", 0.0).camera(message, (480, 640))
    assert camera.rectify is None
    assert np.array_equal(camera.intrinsics, P)


def test_without_distortion_p_is_the_camera_unless_the_image_is_known_to_be_raw():
    message = lens(d=[0.0] * 5)
    for choice, expected in (("auto", P), ("yes", P), ("no", INTRINSICS)):
        camera = ImageCalibration("/left/image", choice, 0.0).camera(message, (480, 640))
        assert (camera.rectify, camera.intrinsics.tolist()) == (None, expected.tolist())


def test_a_rectified_image_of_a_lens_without_p_is_uncalibrated():
    assert image_camera(lens(p=[0.0] * 12), (480, 640), is_rectified=True) is None


def test_maps_are_made_once_per_camera_and_size():
    calibration = ImageCalibration("/image", "auto", 0.0)
    first = calibration.camera(lens(), (480, 640))
    assert calibration.camera(lens(), (480, 640)) is first
    assert calibration.camera(lens(), (240, 320)) is not first
    assert calibration.camera(lens(d=[-0.2, 0.1, 0.0, 0.0, 0.0]), (480, 640)) is not first
    for _ in range(2):
        with pytest.raises(RefusedMessage, match="skew"):
            calibration.camera(lens(k=k(skew=40)), (480, 640))


def test_the_baseline_of_a_stereo_pair_is_in_p():
    left, right = lens(r=TURNED.ravel()), lens(r=TURNED.T.ravel())
    right.p[3] = -450.0 * 0.12
    assert np.array_equal(stereo_place(left, True), np.eye(4))
    assert np.allclose(stereo_place(right, True)[:3, 3], [0.12, 0, 0])
    assert np.array_equal(stereo_place(right, True)[:3, :3], np.eye(3))
    # Raw images look where R has not turned them yet: what they see straight ahead lies at R z of the pair's axes.
    assert np.allclose(stereo_place(right, None)[:3, :3] @ [0, 0, 1], TURNED.T @ [0, 0, 1])
    assert stereo_place(lens(p=[0.0] * 12), True) is None


def test_agrees_with_cv_bridge():
    cv_bridge = pytest.importorskip("cv_bridge")
    bridge = cv_bridge.CvBridge()
    mosaic = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    for encoding in ("mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"):
        message = image(mosaic, encoding)
        assert np.array_equal(image_to_rgb(message), bridge.imgmsg_to_cv2(message, "rgb8"))
