# SPDX-License-Identifier: Apache-2.0
"""Images as bags hold them: videos, without stamps, those that are refused and why."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.bag import START_NS
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
from bags import MCAP, MILLIMETRE, PERIOD_NS, floats, part_of, read, stamps
from others_bags import CLASSES
from rosbags import rosbag2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from da3_core.bag.process import BagSummary

FRAMES = 12
KEY_FRAMES = 4
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
PACKET, VIDEO = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "foxglove_msgs/msg/CompressedVideo"
TOPIC = "/camera/image_raw"

STORE = get_typestore(Stores.LATEST)
STORE.register(
    get_types_from_msg(
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
        "bool is_bigendian\nuint8[] data",
        PACKET,
    )
)
STORE.register(
    get_types_from_msg("builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format", VIDEO)
)


@pytest.fixture(scope="module")
def walk() -> Walk:
    return part_of(room_walk(frames=24, size=(126, 168), seed=5), slice(0, FRAMES))


def time_ns(frame: int) -> int:
    return START_NS + frame * PERIOD_NS


def time(frame: int) -> Any:
    return STORE.types["builtin_interfaces/msg/Time"](*divmod(time_ns(frame), 10**9))


def header(frame: int, stamp: Any = None) -> Any:
    return STORE.types["std_msgs/msg/Header"](stamp=stamp or time(frame), frame_id="camera")


def image(walk: Walk, frame: int, **changes: Any) -> Any:
    pixels = walk.images[frame]
    fields = {
        "header": header(frame),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": pixels.shape[1] * 3,
        "data": pixels.reshape(-1),
    }
    return STORE.types[IMAGE](**{**fields, **changes})


def record(folder: Path, *messages: tuple[str, str, int, Any]) -> Path:
    """A bag of topic, type, frame and message."""
    with rosbag2.Writer(folder, version=9, storage_plugin=MCAP) as writer:
        to: dict[str, Any] = {}
        for topic, kind, frame, message in messages:
            if topic not in to:
                to[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(to[topic], time_ns(frame), STORE.serialize_cdr(message, kind))
    return folder


def encoded(walk: Walk, codec: str, options: dict[str, str]) -> Iterator[tuple[int, bytes]]:
    """Frames and packets, in the order in which the encoder gives them."""
    av = pytest.importorskip("av", reason="needs PyAV")
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = walk.size
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, 10), 10
    context.options = {"crf": "4", "sc_threshold": "0", **options}
    for number, pixels in enumerate(walk.images):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        yield from ((packet.pts, bytes(packet)) for packet in context.encode(frame))
    yield from ((packet.pts, bytes(packet)) for packet in context.encode(None))


def video_bag(walk: Walk, folder: Path, codec: str, options: dict[str, str], kind: str) -> Path:
    messages = []
    for place, (frame, data) in enumerate(encoded(walk, codec, options)):
        pixels = np.frombuffer(data, np.uint8)
        if kind == PACKET:
            message = STORE.types[PACKET](
                header=header(frame),
                width=walk.size[1],
                height=walk.size[0],
                encoding=f"{codec};yuv420p;bgr8;bgr8",
                pts=frame,
                flags=0,
                is_bigendian=False,
                data=pixels,
            )
        else:
            name = "h265" if codec == "libx265" else "h264"
            message = STORE.types[VIDEO](timestamp=time(frame), frame_id="camera", data=pixels, format=name)
        messages.append((f"{TOPIC}/ffmpeg", kind, place, message))
    return record(folder, *messages)


def assert_true_depth(walk: Walk, content: bags.Messages) -> None:
    for frame, (_, message) in zip(stamps(content), content["/da3/depth/image"], strict=True):
        np.testing.assert_allclose(floats(message), walk.depth_m[frame], atol=MILLIMETRE)


H264 = ("libx264", {"tune": "zerolatency", "g": str(KEY_FRAMES)})


@pytest.mark.parametrize("kind", [PACKET, VIDEO])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        H264,
        ("libx264", {"bf": "2", "g": str(KEY_FRAMES)}),  # not in the order of time
        ("libx265", {"x265-params": "keyint=4:bframes=0:log-level=none"}),
    ],
)
def test_videos_are_read_image_by_image(
    walk: Walk, tmp_path: Path, kind: str, codec: str, options: dict[str, str]
) -> None:
    folder = video_bag(walk, tmp_path / "in", codec, options, kind)
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), every=2)
    assert (summary.frames, summary.refused, summary.damage) == (FRAMES // 2, {}, None)
    content = read(tmp_path / "out")
    assert stamps(content) == list(range(0, FRAMES, 2))
    assert_true_depth(walk, content)


def test_video_in_the_protobuf_of_foxglove_is_read(walk: Walk, tmp_path: Path) -> None:
    from mcap_protobuf.writer import Writer

    with (tmp_path / "in.mcap").open("wb") as file, Writer(file) as writer:
        for frame, data in encoded(walk, *H264):
            sec, nanos = divmod(time_ns(frame), 10**9)
            stamp = {"seconds": sec, "nanos": nanos}
            message = CLASSES["CompressedVideo"](timestamp=stamp, frame_id="camera", data=data, format="h264")
            writer.write_message("/video", message, time_ns(frame), time_ns(frame))
    bags.process(tmp_path / "in.mcap", tmp_path / "out", ExactModel(walk, is_metric=True))
    content = read(tmp_path / "out")
    assert stamps(content) == list(range(FRAMES))
    assert_true_depth(walk, content)


def test_part_of_a_video_begins_between_key_frames(walk: Walk, tmp_path: Path) -> None:
    folder = video_bag(walk, tmp_path / "in", *H264, kind=VIDEO)
    bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), start_s=0.6, duration_s=0.3)
    content = read(tmp_path / "out")
    assert stamps(content) == [6, 7, 8]
    assert_true_depth(walk, content)


def test_video_that_begins_between_key_frames_says_how_many_images_that_costs(walk: Walk, tmp_path: Path) -> None:
    messages = [
        ("/video", VIDEO, frame, STORE.types[VIDEO](time(frame), "camera", np.frombuffer(data, np.uint8), "h264"))
        for frame, data in encoded(walk, *H264)
    ]
    folder = record(tmp_path / "in", *messages[1:])
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert sum(summary.refused.values()) == KEY_FRAMES - 1
    assert "the video has had no key frame yet" in summary.refusals
    assert stamps(read(tmp_path / "out")) == list(range(KEY_FRAMES, FRAMES))


@pytest.mark.parametrize("without", [range(FRAMES), [3]])
def test_image_without_a_stamp_has_the_time_of_its_recording(
    walk: Walk, tmp_path: Path, without: Any, caplog: pytest.LogCaptureFixture
) -> None:
    zero = STORE.types["builtin_interfaces/msg/Time"](0, 0)
    images = [
        image(walk, frame, header=header(frame, zero)) if frame in without else image(walk, frame)
        for frame in range(FRAMES)
    ]
    folder = record(tmp_path / "in", *((TOPIC, IMAGE, frame, each) for frame, each in enumerate(images)))
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert (summary.frames, summary.refused) == (FRAMES, {})
    assert stamps(read(tmp_path / "out")) == list(range(FRAMES))
    said = f"images on {TOPIC} without a stamp have the time of their recording"
    assert [each.message for each in caplog.records].count(said) == 1


def test_refusals_are_told_by_reason_in_words(walk: Walk, tmp_path: Path) -> None:
    changes = [{}, {"step": 0}, {"data": np.zeros(7, np.uint8)}, {"step": 0}, {}, {"encoding": "32FC3"}]
    images = [image(walk, frame, **change) for frame, change in enumerate(changes)]
    folder = record(tmp_path / "in", *((TOPIC, IMAGE, frame, each) for frame, each in enumerate(images)))
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert (summary.frames, summary.refused) == (2, {"step": 2, "truncated": 1, "encoding": 1})
    assert summary.refused_most
    assert summary.refusals.startswith(
        "4 images were refused, 2 because the 168x126 rgb8 image has a step of 0 bytes; "
    )
    assert ", 1 because the 168x126 rgb8 image carries 7 bytes of data; " in summary.refusals
    assert ", 1 because the image has the encoding '32FC3'; " in summary.refusals
    assert not BagSummary(4, {"step": 4}, 1, None, False).refused_most


def test_images_that_no_model_takes_are_left_out_and_the_others_used(walk: Walk, tmp_path: Path) -> None:
    """At one row to eighty columns, amid good ones."""
    narrow = {"height": 2, "width": 160, "step": 480, "data": np.zeros(960, np.uint8)}
    images = [image(walk, frame, **(narrow if 4 <= frame < 8 else {})) for frame in range(FRAMES)]
    folder = record(tmp_path / "in", *((TOPIC, IMAGE, frame, each) for frame, each in enumerate(images)))
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True), window=3)
    assert (summary.frames, summary.refused) == (8, {"unusable": 4})
    assert "160 x 2 pixels is too narrow" in summary.refusals
    content = read(tmp_path / "out")
    assert stamps(content) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert_true_depth(walk, content)


def test_bag_without_pictures_says_why_of_every_topic_and_what_it_holds(walk: Walk, tmp_path: Path) -> None:
    depth = image(walk, 0, encoding="16UC1")
    packed = STORE.types[COMPRESSED](header(0), "16UC1; compressedDepth png", np.zeros(40, np.uint8))
    folder = record(
        tmp_path / "in",
        ("/depth/image_raw", IMAGE, 0, depth),
        ("/depth/image_raw/compressedDepth", COMPRESSED, 1, packed),
        ("/video", VIDEO, 2, STORE.types[VIDEO](time(2), "", np.zeros(40, np.uint8), "theora")),
        ("/status", "std_msgs/msg/Header", 3, header(3)),
    )
    with pytest.raises(InputError) as refusal:
        bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    for said in (
        "; /depth/image_raw: the image has the encoding '16UC1'; accepted are rgb8, ",
        "; /depth/image_raw/compressedDepth: the compressed image has the format '16UC1; compressedDepth png'; ",
        "; /video: the video has the format 'theora'; accepted are h264",
        "it holds /depth/image_raw (sensor_msgs/msg/Image, 1 messages), ",
        "/status (std_msgs/msg/Header, 1 messages)",
    ):
        assert said in str(refusal.value)
