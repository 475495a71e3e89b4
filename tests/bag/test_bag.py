# SPDX-License-Identifier: Apache-2.0
"""A walk as a bag through a model that knows it: every kind of bag, whole and damaged, against the true room."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.options import PointOptions
from da3_core.ros_data.images import ENCODINGS
from da3_core.stream.record import SessionRecord
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.bag import START_NS, write_bag
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
from bags import (
    MCAP,
    MILLIMETRE,
    PERIOD_NS,
    SQLITE3,
    Process,
    floats,
    matrix,
    part_of,
    read,
    rewritten,
    stamp,
    stamps,
    true_pose,
)
from others_bags import in_mcap, in_protobuf
from rosbags import rosbag1, rosbag2
from rosbags.convert.converter import migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from da3_core.bag.process import BagSummary

FRAMES = 8
IMAGE = "/camera/image_raw"
PER_FRAME = (
    "depth/image",
    "depth/image_raw",
    "depth/camera_info",
    "depth/preview",
    "image_rect",
    "confidence/image",
    "pose",
    "odometry",
)


@pytest.fixture(scope="module")
def short_walk() -> Walk:
    """Sides are multiples of 14, so that nothing is resampled."""
    return part_of(room_walk(frames=24, size=(126, 168), seed=5), slice(0, FRAMES))


@pytest.fixture(scope="module")
def recording(short_walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(short_walk, tmp_path_factory.mktemp("recording") / "bag")


@pytest.fixture
def process(short_walk: Walk, tmp_path: Path) -> Process:
    """`process(bag, stop=…, storage=…, record=…, **options)` writes the bag `tmp_path / "out"`."""
    return lambda path, **choices: bags.process(
        path, tmp_path / "out", ExactModel(short_walk, is_metric=True), **choices
    )


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_everything_is_true_and_on_the_time_line_of_the_images(
    process: Process, recording: Path, short_walk: Walk, tmp_path: Path, storage: str
) -> None:
    summary = process(recording, storage=storage)
    assert summary == BagSummary(frames=FRAMES, refused={}, maps=1, damage=None, stopped=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    content = read(tmp_path / "out")
    for topic in PER_FRAME:
        assert stamps(content, f"/da3/{topic}") == list(range(FRAMES)), topic
        for time_ns, message in content[f"/da3/{topic}"]:
            assert time_ns == stamp(message)
            in_map = topic in ("pose", "odometry")
            assert message.header.frame_id == ("da3_map" if in_map else "camera_optical_frame")
    for frame in range(FRAMES):
        of_frame = {topic: content[f"/da3/{topic}"][frame][1] for topic in PER_FRAME}
        np.testing.assert_allclose(floats(of_frame["depth/image"]), short_walk.depth_m[frame], atol=MILLIMETRE)
        np.testing.assert_array_equal(of_frame["image_rect"].data.reshape(126, 168, 3), short_walk.images[frame])
        assert floats(of_frame["confidence/image"]).min() >= 1
        centred = short_walk.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        np.testing.assert_allclose(of_frame["depth/camera_info"].k.reshape(3, 3), centred, rtol=1e-6)
        pose = of_frame["pose"].pose
        np.testing.assert_allclose(
            matrix(pose.position, pose.orientation), true_pose(short_walk, frame), atol=MILLIMETRE
        )
        assert of_frame["odometry"].pose.pose == pose
        assert np.diag(of_frame["odometry"].pose.covariance.reshape(6, 6)).min() > 0
    assert [stamp(pose) for pose in content["/da3/path"][-1][1].poses] == [START_NS + i * PERIOD_NS for i in range(8)]


def test_windows_hold_their_views_and_define_their_types(process: Process, recording: Path, tmp_path: Path) -> None:
    process(recording)
    content = read(tmp_path / "out")
    depth = {stamp(message): message.data for _, message in content["/da3/depth/image"]}
    windows = [message for _, message in content["/da3/window"]]
    assert [len(window.views) for window in windows] == [4] * (FRAMES - 3)
    for window in windows:
        assert (window.model, window.scale_source, window.SCALE_MODEL) == ("exact", 1, 1)
        for view in window.views:
            np.testing.assert_array_equal(view.depth.data, depth[stamp(view)])


def test_transforms_join_the_tree_of_the_recording_without_a_second_parent(
    process: Process, recording: Path, short_walk: Walk, tmp_path: Path
) -> None:
    """Everything copied: the map is put above the root, and map -> world -> link -> lens is the pose."""
    process(recording, copy_topics="all")
    content, original = read(tmp_path / "out"), read(recording)
    for topic, messages in original.items():
        if topic != "/tf":
            assert [time for time, _ in content[topic]] == [time for time, _ in messages]
    np.testing.assert_array_equal(content[IMAGE][3][1].data, original[IMAGE][3][1].data)
    edges = {(t.header.frame_id, t.child_frame_id) for _, m in content["/tf"] for t in m.transforms}
    assert edges == {("da3_map", "world"), ("world", "camera_link")}
    mounting = content["/tf_static"][0][1].transforms[0].transform
    for frame in range(FRAMES):
        chain = {
            t.child_frame_id: t
            for _, m in content["/tf"]
            for t in m.transforms
            if stamp(t) == START_NS + frame * PERIOD_NS
        }
        map_world, world_link = (
            matrix(t.translation, t.rotation) for t in (chain["world"].transform, chain["camera_link"].transform)
        )
        lens = map_world @ world_link @ matrix(mounting.translation, mounting.rotation)
        np.testing.assert_allclose(lens, true_pose(short_walk, frame), atol=MILLIMETRE)


def as_ros1(recording: Path, folder: Path) -> Path:
    """Everything as ROS 1 names and packs it, compressed, and one type that only this bag has."""
    source, store, path = get_typestore(Stores.LATEST), get_typestore(Stores.ROS1_NOETIC), folder.with_suffix(".bag")
    plans: dict[str, object] = {}
    gauge = "our_msgs/msg/Gauge"
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64 bar", gauge))
    store.register({name: fields for name, fields in source.fielddefs.items() if name.startswith("tf2_msgs/msg/TF")})
    writer = rosbag1.Writer(path)
    writer.set_compression(rosbag1.Writer.CompressionFormat.LZ4)
    with AnyReader([recording]) as reader, writer:
        to = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=store, latching=int(c.topic == "/tf_static"))
            for c in reader.connections
        }
        pressure = writer.add_connection("/pressure", gauge, typestore=store)
        for connection, time_ns, raw in reader.messages():
            kind = connection.msgtype
            old = migrate_bytes(source, store, kind, kind, plans, raw, src_is2=True, dst_is2=False)
            writer.write(to[connection.topic], time_ns, old)
        header = store.types["std_msgs/msg/Header"](
            seq=7, stamp=store.types["builtin_interfaces/msg/Time"](sec=5, nanosec=6), frame_id="tank"
        )
        writer.write(pressure, time_ns, store.serialize_ros1(store.types[gauge](header=header, bar=2.5), gauge))
    return path


def with_compressed_images(recording: Path, folder: Path) -> Path:
    """Images as PNG, on the topic that image_transport gives them."""
    store = get_typestore(Stores.LATEST)
    kind = "sensor_msgs/msg/CompressedImage"
    writer = rosbag2.Writer(folder, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
    with AnyReader([recording]) as reader, writer:
        to = {
            c.topic: writer.add_connection(c.topic, c.msgtype, typestore=store)
            for c in reader.connections
            if c.topic != IMAGE
        }
        compressed = writer.add_connection(f"{IMAGE}/compressed", kind, typestore=store)
        for connection, time_ns, raw in reader.messages():
            if connection.topic != IMAGE:
                writer.write(to[connection.topic], time_ns, raw)
                continue
            message = reader.deserialize(raw, connection.msgtype)
            _, png = cv2.imencode(".png", message.data.reshape(message.height, message.width, 3)[..., ::-1])
            picture = store.types[kind](header=message.header, format="rgb8; png compressed bgr8", data=png.ravel())
            writer.write(compressed, time_ns, store.serialize_cdr(picture, kind))
    return folder


CONTAINERS = {
    "sqlite3": lambda bag, to: rewritten(bag, to, storage=SQLITE3),
    "zstd messages": lambda bag, to: rewritten(bag, to, storage=SQLITE3, compression=rosbag2.CompressionMode.MESSAGE),
    "zstd file": lambda bag, to: rewritten(bag, to, storage=SQLITE3, compression=rosbag2.CompressionMode.FILE),
    "zstd chunks": lambda bag, to: rewritten(bag, to, storage=MCAP, compression=rosbag2.CompressionMode.STORAGE),
    "mcap file": lambda bag, to: next(bag.glob("*.mcap")),
    "ros 1": as_ros1,
    "png": with_compressed_images,
    "ros 1 in mcap": lambda bag, to: in_mcap(as_ros1(bag, to), to, profile="ros1"),
    "protobuf": in_protobuf,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_results(
    process: Process, recording: Path, tmp_path: Path, short_walk: Walk, container: str
) -> None:
    summary = process(CONTAINERS[container](recording, tmp_path / "in"), window_messages=False)
    assert (summary.frames, summary.damage) == (FRAMES, None)
    content = read(tmp_path / "out")
    assert stamps(content) == list(range(FRAMES))
    for frame, (_, message) in enumerate(content["/da3/depth/image"]):
        np.testing.assert_allclose(floats(message), short_walk.depth_m[frame], atol=MILLIMETRE)
    pose = content["/da3/pose"][-1][1].pose
    np.testing.assert_allclose(
        matrix(pose.position, pose.orientation), true_pose(short_walk, FRAMES - 1), atol=MILLIMETRE
    )


def encoded(rgb: np.ndarray, encoding: str) -> np.ndarray:
    """The bytes of an image in an encoding, as `(rows, row bytes)`."""
    height, width = rgb.shape[:2]
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    plain = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "8UC3": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, grey]),
        "rgb16": rgb.astype("<u2") * 257,
        "bgr16": rgb[..., ::-1].astype("<u2") * 257,
        "8UC4": np.dstack([rgb[..., ::-1], grey]),
        "bgra8": np.dstack([rgb[..., ::-1], grey]),
        "mono8": grey,
        "8UC1": grey,
        "mono16": grey.astype("<u2") * 257,
    }
    if encoding in plain:
        pixels = plain[encoding]
    elif encoding.startswith("bayer"):
        channels = np.array(["rgb".index(letter) for letter in encoding[6:10]]).reshape(2, 2)
        mosaic = np.tile(channels, (height // 2, width // 2))
        pixels = np.take_along_axis(rgb, mosaic[..., None], axis=2)[..., 0]
        pixels = pixels.astype("<u2") * 257 if encoding.endswith("16") else pixels
    else:
        planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        u, v = (part.reshape(height // 2, width // 2) for part in np.split(planes[height:].ravel(), 2))
        if encoding in ("i420", "yuv420"):
            pixels = planes
        elif encoding in ("nv12", "nv21"):
            chroma = np.dstack([u, v] if encoding == "nv12" else [v, u]).reshape(height // 2, width)
            pixels = np.vstack([planes[:height], chroma])
        else:
            colour = np.dstack([u, v]).repeat(2, axis=0).reshape(height, width)
            pairs = [planes[:height], colour] if encoding in ("yuyv", "yuv422_yuy2") else [colour, planes[:height]]
            pixels = np.dstack(pairs)
    return np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)


def test_every_encoding_of_the_live_node_is_read(process: Process, short_walk: Walk, tmp_path: Path) -> None:
    """One after the other in one bag; rows are padded, as drivers do."""
    store, kind = get_typestore(Stores.LATEST), "sensor_msgs/msg/Image"
    height, width = short_walk.size
    with rosbag2.Writer(tmp_path / "in", version=9, storage_plugin=MCAP) as writer:
        to = writer.add_connection(IMAGE, kind, typestore=store)
        for i, encoding in enumerate(ENCODINGS):
            padding = 0 if encoding in ("i420", "yuv420") else 8
            rows = np.pad(encoded(short_walk.images[i % FRAMES], encoding), [(0, 0), (0, padding)])
            stamp_ns = START_NS + i * PERIOD_NS
            time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
            message = store.types[kind](
                header=store.types["std_msgs/msg/Header"](stamp=time, frame_id="camera"),
                height=height,
                width=width,
                encoding=encoding,
                is_bigendian=0,
                step=rows.shape[1],
                data=rows.ravel(),
            )
            writer.write(to, stamp_ns, store.serialize_cdr(message, kind))
    summary = process(tmp_path / "in", window=1, window_messages=False)
    assert (summary.frames, summary.refused) == (len(ENCODINGS), {})
    content = read(tmp_path / "out")
    for i, encoding in enumerate(ENCODINGS):
        depth, seen = (content[f"/da3/{topic}"][i][1] for topic in ("depth/image", "image_rect"))
        np.testing.assert_allclose(floats(depth), short_walk.depth_m[i % FRAMES], atol=MILLIMETRE)
        true = short_walk.images[i % FRAMES]
        if encoding in ("mono8", "mono16", "8UC1"):
            true = cv2.cvtColor(cv2.cvtColor(true, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        difference = np.abs(seen.data.reshape(true.shape).astype(int) - true).mean()
        assert difference < 8, encoding  # what mosaics and shared colours cost; other colours are 20 and more away


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_every_topic_carries_the_whole_definition_of_its_type(
    process: Process, recording: Path, tmp_path: Path, storage: str
) -> None:
    """Whatever a definition names is defined in it, which is what viewers without ROS read messages by."""
    process(recording, storage=storage, every=4, window=1, points=PointOptions(stride=8), copy_topics="tf")
    primitive = re.compile(r"(bool|byte|char|u?int(8|16|32|64)|float(32|64)|w?string)(<=\d+)?")
    with AnyReader([tmp_path / "out"]) as reader:
        topics = {connection.topic for connection in reader.connections}
        assert {"/da3/window", "/da3/points", "/da3/depth/image_raw", "/tf", "/tf_static"} <= topics
        for connection in reader.connections:
            assert connection.msgdef.format.name == "MSG"
            own, *others = re.split(r"={80}\n", connection.msgdef.data)
            defined = {part.partition("\n")[0].removeprefix("MSG: ").strip() for part in others}
            for text in (own, *(part.partition("\n")[2] for part in others)):
                lines = (line.partition("#")[0].split() for line in text.splitlines())
                for kind in (re.sub(r"\[.*\]$", "", words[0]) for words in lines if words):
                    assert primitive.fullmatch(kind) or kind in defined, (connection.topic, kind)


@pytest.mark.parametrize("container", ["ros 1", "ros 1 in mcap"])
def test_topics_of_ros1_are_copied_as_those_of_ros2(
    process: Process, recording: Path, tmp_path: Path, container: str
) -> None:
    process(CONTAINERS[container](recording, tmp_path / "in"), copy_topics="all", every=4)
    copied, original = read(tmp_path / "out"), read(recording)
    for topic, messages in original.items():
        if topic == "/tf":
            continue
        assert [time for time, _ in copied[topic]] == [time for time, _ in messages]
        for (_, one), (_, other) in zip(copied[topic], messages, strict=True):
            assert_equal_messages(one, other)
    [(_, pressure)] = copied["/pressure"]
    assert (pressure.header.stamp.nanosec, pressure.header.frame_id, pressure.bar) == (6, "tank", 2.5)
    with AnyReader([tmp_path / "out"]) as reader:
        [static] = [each for each in reader.connections if each.topic == "/tf_static"]
    [qos] = static.ext.offered_qos_profiles
    assert qos.durability.name == "TRANSIENT_LOCAL"


def assert_equal_messages(one: Any, other: Any) -> None:
    assert type(one).__name__ == type(other).__name__
    for name, value in vars(one).items():
        theirs = getattr(other, name)
        if hasattr(value, "__msgtype__"):
            assert_equal_messages(value, theirs)
        elif isinstance(value, list):
            for pair in zip(value, theirs, strict=True):
                assert_equal_messages(*pair)
        else:
            np.testing.assert_array_equal(value, theirs)


def test_damaged_message_is_left_out_and_told(process: Process, recording: Path, tmp_path: Path) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=SQLITE3, compression=rosbag2.CompressionMode.MESSAGE)
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        [topic] = database.execute("SELECT id FROM topics WHERE name = ?", [IMAGE]).fetchone()
        rows = database.execute("SELECT id FROM messages WHERE topic_id = ? ORDER BY id", [topic]).fetchall()
        database.execute("UPDATE messages SET data = ? WHERE id = ?", [b"no zstd at all", *rows[6]])
    summary = process(folder)
    assert (summary.frames, summary.refused) == (FRAMES - 1, {"damage": 1})
    assert "is damaged" in (summary.damage or "")
    assert stamps(read(tmp_path / "out")) == [0, 1, 2, 3, 4, 5, 7]


def test_nothing_is_left_of_what_could_not_be_done(process: Process, recording: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "in.mcap"
    garbage.write_bytes(b"\x89MCAP0\r\nand then nothing sensible")
    for path, reason in (
        (tmp_path / "none", "does not exist"),
        (Path(__file__), "is no bag"),
        (garbage, "nothing of it can be read"),
    ):
        with pytest.raises(InputError, match=reason):
            process(path)
    for options, reason in (
        ({"image_topics": ("/other",)}, "no images on '/other'; it has them on /camera/depth, /camera/image_raw"),
        ({"camera_info_topics": (IMAGE,)}, "no CameraInfo on"),
        ({"start_s": 60.0}, "the bag has 0.7 s"),
        ({"copy_topics": "("}, "regular expression"),
        ({"copy_topics": "lidar"}, "means none of the topics"),
        ({"image_topics": ("/camera/depth",)}, "8 images were refused, 8 because the image has the encoding '32FC1'"),
    ):
        with pytest.raises(InputError, match=re.escape(reason)):
            process(recording, **options)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        process(recording)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mcap", "out"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start_s": 0.2, "duration_s": 0.4}, [2, 3, 4, 5]),
        ({"every": 3}, [0, 3, 6]),
        ({"fps": 5.0}, [0, 2, 4, 6]),
        ({"fps": 4.0, "every": 2}, [0, 5]),
        ({"window": 3, "stride": 2}, list(range(FRAMES))),
    ],
)
def test_chosen_part(
    process: Process, recording: Path, tmp_path: Path, options: dict[str, Any], expected: list[int]
) -> None:
    assert process(recording, **options).frames == len(expected)
    assert stamps(read(tmp_path / "out")) == expected


def test_stopped_bag_is_whole_and_shorter(process: Process, recording: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    summary = process(recording, stop=lambda: next(asked), copy_topics=IMAGE)
    assert (summary.stopped, summary.frames) == (True, 5)
    assert stamps(read(tmp_path / "out")) == list(range(5))


def test_export_has_the_views_of_the_longest_map_thinned_evenly(
    process: Process, recording: Path, short_walk: Walk
) -> None:
    record = SessionRecord(4, "longest_map")
    process(recording, record=record)
    prediction = record.prediction()
    assert prediction.image_names == tuple(f"{START_NS + frame * PERIOD_NS}.png" for frame in (0, 2, 4, 6))
    np.testing.assert_allclose(prediction.depth, short_walk.depth_m[::2], atol=MILLIMETRE)
    assert prediction.is_metric == 1
    camera_to_first = np.linalg.inv(short_walk.camera_to_world[0]) @ short_walk.camera_to_world[6]
    assert prediction.extrinsics is not None
    np.testing.assert_allclose(np.linalg.inv(prediction.extrinsics[3]), camera_to_first, atol=MILLIMETRE)


def test_memory_does_not_grow_with_the_bag(tmp_path: Path) -> None:
    """Four times as many frames, 110 MB more of them, copied too."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "bag_memory.py"), str(tmp_path), "40", "160"]
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1])}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    small_mb, large_mb = map(float, result.stdout.split())
    assert large_mb - small_mb < 15
