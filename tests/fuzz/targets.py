# SPDX-License-Identifier: Apache-2.0
"""One target per reader: files that are right, how they are read, and what a refusal of theirs is."""

import io
import json
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.PngImagePlugin

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.read import BagReader
from da3_core.errors import InputError
from da3_core.formats.colmap_model import CAMERA_MODELS, Camera, Image, Points, read_model, write_binary, write_text
from da3_core.formats.gltf import POINTS
from da3_core.options import CameraOptions
from da3_core.preprocessing import decode
from da3_core.ros_data.images import ENCODINGS, RefusedMessage, compressed_to_rgb, image_to_rgb
from da3_core.sources.given_camera import GivenCamera
from da3_core.sources.images import check_headers
from da3_core.sources.times import stamps_of_images
from da3_core.synthetic import room_walk
from da3_core.synthetic.bag import write_bag
from da3_core.web.app.examples import Example, ExampleCache
from da3_core.web.app.stored import save_prediction
from da3_core.web.gallery.glb import count_points


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        originals: what the reader reads.
        read: reads, given a folder for files.
        refusals: what it raises, as a sentence, for what it does not read; none where it always reads something.
        runs: how many inputs the suite tries.
    """

    originals: Sequence[bytes]
    read: Callable[[bytes, Path], object]
    refusals: Sequence[type[Exception]] = (InputError,)
    runs: int = 300


def _picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)


def _encoded(kind: str, pixels: np.ndarray | None = None, **options: Any) -> bytes:
    content = io.BytesIO()
    PIL.Image.fromarray(_picture() if pixels is None else pixels).save(content, kind, **options)
    return content.getvalue()


def _photographs() -> list[bytes]:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0xA405: 28, 0x920A: 4.2})
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("Comment", "a" * 40, zip=True)
    text.add_itxt("Title", "b" * 40, zip=True)
    return [
        _encoded("JPEG", exif=exif),
        _encoded("JPEG", progressive=True),
        _encoded("PNG", pnginfo=text, exif=exif),
        _encoded("PNG", np.arange(192, dtype=np.uint16).reshape(12, 16)),
        _encoded("WEBP", exif=exif),
        _encoded("WEBP", lossless=True),
        _encoded("BMP"),
        _encoded("TIFF", compression="tiff_lzw"),
        _encoded("TIFF", np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16)),
    ]


def images() -> Target:
    """Of the commands and services: the look at the head, the tags, the pixels."""
    camera = GivenCamera(CameraOptions(focal_from_exif=True))

    def read(data: bytes, folder: Path) -> None:
        file = folder / "image"
        file.write_bytes(data)
        check_headers([file])
        with suppress(InputError):  # most have no tags, and their pixels are wanted all the same
            camera.of_files([file])
        for upright in (False, True):
            decode(file, apply_exif=upright)

    return Target(_photographs(), read)


def compressed_messages() -> Target:
    def read(data: bytes, folder: Path) -> None:
        compressed_to_rgb(SimpleNamespace(format="jpeg", data=data))

    deep = _encoded("PNG", np.arange(192, dtype=np.uint16).reshape(12, 16))
    originals = [*(one for one in _photographs() if one[:2] in (b"\xff\xd8", b"\x89P", b"RI")), deep]
    return Target(originals, read, (RefusedMessage,))


def raw_messages() -> Target:
    """Fields in front of the pixels: height, width, step, number of the encoding, byte order."""
    head, names = struct.Struct("<IIIBB"), [*ENCODINGS, "32FC1", ""]

    def read(data: bytes, folder: Path) -> None:
        height, width, step, encoding, is_bigendian = head.unpack(data[: head.size].ljust(head.size, b"\0"))
        name = names[encoding % len(names)]
        pixels = data[head.size :]
        fields = {"height": height, "width": width, "step": step, "encoding": name, "data": pixels}
        image_to_rgb(SimpleNamespace(**fields, is_bigendian=is_bigendian & 1))

    def message(number: int) -> bytes:
        encoding = ENCODINGS[names[number]]
        step = 6 * encoding.channels * np.dtype(encoding.dtype).itemsize
        return head.pack(4, 6, step, number, number & 1) + bytes(288)

    return Target([message(number) for number in range(len(ENCODINGS))], read, (RefusedMessage,), runs=1000)


def _bag_target(name: str, content: bytes, runs: int) -> Target:
    def read(data: bytes, folder: Path) -> None:
        file = folder / name
        file.write_bytes(data)
        with BagReader(file) as bag:
            for _ in RecordedCamera(bag, BagOptions()).frame_sets(set(bag.types), lambda message: None):
                pass

    return Target([content], read, runs=runs)


def _walk_bag(storage: Any) -> bytes:
    with TemporaryDirectory() as folder:
        bag = write_bag(room_walk(frames=2, size=(16, 16)), Path(folder, "bag"), storage=storage)
        return next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3")).read_bytes()


def bags_of_mcap() -> Target:
    return _bag_target("walk.mcap", _walk_bag("mcap"), runs=40)


def bags_of_sqlite() -> Target:
    return _bag_target("walk.db3", _walk_bag("sqlite3"), runs=40)


def bags_of_ros1() -> Target:
    from rosbags import rosbag1
    from rosbags.typesys import Stores, get_typestore

    store, kind = get_typestore(Stores.ROS1_NOETIC), "sensor_msgs/msg/Image"
    types = store.types
    with TemporaryDirectory() as folder:
        writer = rosbag1.Writer(Path(folder, "walk.bag"))
        writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
        with writer:
            to = writer.add_connection("/image", kind, typestore=store)
            for second in (1, 2):
                stamp = types["builtin_interfaces/msg/Time"](second, 0)
                header = types["std_msgs/msg/Header"](second, stamp, "camera")
                image = types[kind](header, 12, 16, "rgb8", 0, 48, _picture().ravel())
                writer.write(to, second * 10**9, store.serialize_ros1(image, kind))
        content = Path(folder, "walk.bag").read_bytes()
    return _bag_target("walk.bag", content, runs=40)


def bag_metadata() -> Target:
    content = _walk_bag("mcap")
    with TemporaryDirectory() as folder:
        bag = write_bag(room_walk(frames=2, size=(16, 16)), Path(folder, "bag"))
        metadata = (bag / "metadata.yaml").read_bytes()

    def read(data: bytes, folder: Path) -> None:
        """Wrong metadata are warned about, and the file beside them is read; they can name it wrongly."""
        (folder / "bag").mkdir(exist_ok=True)
        (folder / "bag/bag.mcap").write_bytes(content)
        (folder / "bag/metadata.yaml").write_bytes(data)
        with BagReader(folder / "bag") as bag:
            assert bag.counts

    return Target([metadata], read, (), runs=40)


def _colmap(write: Callable[..., None]) -> list[bytes]:
    """Both files in one, the length of the first in front."""
    cameras = [
        Camera(number, model, 16, 12, tuple(10.0 + each for each in range(len(names))))
        for number, (model, names) in enumerate(CAMERA_MODELS.items(), 1)
    ]
    pictures = [Image(one.id, one.id, f"{one.id}.png", np.eye(4), np.ones((2, 2)), np.array([1, 2])) for one in cameras]
    points = Points(np.array([1, 2]), np.zeros((2, 3)), np.zeros((2, 3), np.uint8), np.array([1, 2]), np.array([0, 1]))
    found = []
    with TemporaryDirectory() as folder:
        for chosen in (slice(0, 2), slice(4, 7), slice(0, len(cameras) - 1)):
            write(Path(folder), cameras[chosen], pictures[chosen], points)
            first, second = (next(Path(folder).glob(f"{name}.*")).read_bytes() for name in ("cameras", "images"))
            found.append(len(first).to_bytes(4, "little") + first + second)
    return found


def _colmap_target(suffix: str, write: Callable[..., None]) -> Target:
    def read(data: bytes, folder: Path) -> None:
        length = int.from_bytes(data[:4], "little") % (len(data) + 1)
        (folder / f"cameras{suffix}").write_bytes(data[4 : 4 + length])
        (folder / f"images{suffix}").write_bytes(data[4 + length :])
        cameras, pictures = read_model(folder)
        for picture in pictures:
            cameras[picture.camera_id].lens()
            Path(picture.name)

    return Target(_colmap(write), read, runs=150)


def colmap_binary() -> Target:
    return _colmap_target(".bin", write_binary)


def colmap_text() -> Target:
    return _colmap_target(".txt", write_text)


def _camera_file(name: str, originals: list[bytes], runs: int = 300) -> Target:
    def read(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        GivenCamera(CameraOptions(intrinsics_file=str(folder / name))).of_size((12, 16))

    return Target(originals, read, runs=runs)


def camera_matrices() -> Target:
    return _camera_file(
        "K.txt", [b"# view 0, 16 x 12 pixels\n14.5 0 8\n0 14.5 6\n0 0 1\n", b"14 0 8\n0 14 6\n0 0 1\n" * 2]
    )


def camera_info_files() -> Target:
    matrix = "  rows: 3\n  cols: {}\n  data: [{}]\n"
    numbers = "14.5, 0, 8, 0, 14.5, 6, 0, 0, 1"
    text = (
        "image_width: 16\nimage_height: 12\ncamera_name: left\ndistortion_model: plumb_bob\ncamera_matrix:\n"
        + matrix.format(3, numbers)
        + "distortion_coefficients:\n"
        + matrix.format(5, "0.1, -0.01, 0, 0, 0")
        + "rectification_matrix:\n"
        + matrix.format(3, "1, 0, 0, 0, 1, 0, 0, 0, 1")
        + "projection_matrix:\n"
        + matrix.format(4, "14.5, 0, 8, 0, 0, 14.5, 6, 0, 0, 0, 1, 0")
    ).encode()
    fisheye = text.replace(b"plumb_bob", b"equidistant").replace(b"0, 0, 0]\nrect", b"0.001, 0]\nrect")
    return _camera_file("left.yaml", [text, fisheye], runs=80)


def times() -> Target:
    """They are left out, with a warning, where they are no times."""

    def read(data: bytes, folder: Path) -> None:
        (folder / "times.txt").write_bytes(data)
        if stamps_of_images([folder / "0.png", folder / "1.png"]) is None:
            raise InputError("left out with a warning")

    return Target([b"0.0\n0.1\n", b"1403636579.763555584\n1403636579.813555584\n"], read)


def kept_predictions() -> Target:
    """Of the app's examples: computed anew where they cannot be read."""
    from da3_core.prediction import Prediction

    made = Prediction(
        depth=np.ones((1, 12, 16), np.float32),
        is_metric=1,
        processed_images=_picture()[None],
        image_names=("a.png",),
        scale_factor=2.0,
    )

    def read(data: bytes, folder: Path) -> None:
        cache, example = ExampleCache(folder, "model", 112), Example("room", ())
        kept = folder / "example_room"
        kept.mkdir(exist_ok=True)
        (kept / "origin.json").write_text(json.dumps(cache._origin(example)))
        (kept / "prediction.npz").write_bytes(data)
        if cache.load(example) is None:
            raise InputError("computed anew with a warning")

    with TemporaryDirectory() as folder:
        save_prediction(made, Path(folder, "one.npz"))
        content = Path(folder, "one.npz").read_bytes()
    return Target([content], read, runs=100)


def glb_heads() -> Target:
    """Of the gallery: what cannot be read has no number of points."""

    def glb(document: dict[str, Any]) -> bytes:
        text = json.dumps(document).encode()
        return b"glTF" + struct.pack("<IIII", 2, 20 + len(text), len(text), 0x4E4F534A) + text

    document = {
        "accessors": [{"count": 7}, {"count": 9}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "mode": POINTS}]}],
    }

    def read(data: bytes, folder: Path) -> None:
        (folder / "scene.glb").write_bytes(data)
        with (folder / "scene.glb").open("rb") as file:
            points = count_points(file)
        if points is None:
            raise InputError("a file without a number of points")

    return Target([glb(document)], read)


def videos() -> Target:
    """Messages that carry a piece of a video, the first of which is changed."""
    import av

    from da3_core.ros_data.video import VideoDecoder, frame_to_rgb

    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p", Fraction(1, 10)
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"}
    shown = av.VideoFrame.from_ndarray(cv2.resize(_picture(), (64, 48)), format="rgb24")
    pieces = [bytes(packet) for _ in range(3) for packet in encoder.encode(shown)]

    def read(data: bytes, folder: Path) -> None:
        decoder = VideoDecoder[int]()
        for number, piece in enumerate([data, *pieces[1:]]):
            for _, frame in decoder.decode(SimpleNamespace(format="h264", data=piece), number):
                frame_to_rgb(frame)
        for _, frame in decoder.finish():
            frame_to_rgb(frame)

    return Target([pieces[0]], read, (RefusedMessage,), runs=60)


TARGETS: dict[str, Callable[[], Target]] = {
    each.__name__: each
    for each in (
        *(images, compressed_messages, raw_messages, bags_of_mcap, bags_of_sqlite, bags_of_ros1, bag_metadata),
        *(colmap_binary, colmap_text, camera_matrices, camera_info_files, times, kept_predictions, glb_heads, videos),
    )
}
