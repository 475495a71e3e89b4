# SPDX-License-Identifier: Apache-2.0
"""Bags as they lie about: of other programs, without their metadata or with edited ones, with a log beside them."""

import json
import logging
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.bag import write_bag

pytest.importorskip("rosbags", reason="needs the package rosbags")

from bags import MCAP, SQLITE3, part_of, rewritten
from mcap.writer import CompressionType, IndexType
from others_bags import in_mcap, in_protobuf
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from da3_core.bag.copies import TopicCopies
from da3_core.bag.read import BagReader
from da3_core.bag.write import BagWriter

FRAMES = 6
IMAGE = "/camera/image_raw"


@pytest.fixture(scope="module")
def walk() -> Walk:
    return part_of(room_walk(frames=24, size=(42, 56), seed=5), slice(0, FRAMES))


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(walk, tmp_path_factory.mktemp("recording") / "bag")


def assert_whole(path: Path, walk: Walk) -> None:
    with BagReader(path) as bag:
        images = [bag.decode(message).data for message in bag.messages([IMAGE])]
        assert bag.damage is None
        np.testing.assert_array_equal(np.stack(images).reshape(walk.images.shape), walk.images)


def add_channels_of_others(writer: Any) -> None:
    note = writer.register_schema("Note", "jsonschema", b'{"type": "object"}')
    writer.add_message(writer.register_channel("/notes", "json", note), 1, b'{"a": 1}', 1)
    binary = writer.register_schema("px4.Status", "protobuf", b"\x0a\x05\xff\xfe\x00")
    writer.add_message(writer.register_channel("/status", "protobuf", binary), 2, b"\x08\x01", 2)
    writer.add_message(writer.register_channel("/raw", "flatbuffer", 0), 3, b"\xff", 3)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": CompressionType.NONE},
        {"compression": CompressionType.LZ4, "chunk_size": 10_000},
        {"compression": CompressionType.ZSTD, "use_statistics": False},
        {"use_chunking": False},
        {"index_types": IndexType.NONE, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False},
    ],
)
@pytest.mark.parametrize("profile", ["", "foxglove", "px4"])
def test_mcap_of_any_profile_is_read_beside_channels_that_are_not(
    walk: Walk, recording: Path, tmp_path: Path, profile: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = in_mcap(recording, tmp_path / "in", profile=profile, extra=add_channels_of_others, **options)
    assert_whole(path, walk)
    with BagReader(path) as bag, BagWriter(tmp_path / "out", "mcap") as writer:
        assert bag.types["/notes"] == "Note (json)"
        assert bag.types["/status"] == "px4.Status (protobuf)"
        assert (bag.counts["/notes"], bag.counts[IMAGE], bag.start_ns) == (1, FRAMES, 1)
        assert "/notes" not in TopicCopies(bag, set(bag.types), writer).topics
    assert "/notes is not copied: its messages are json, not of ROS" in caplog.text


def test_messages_of_foxglove_have_the_fields_of_those_of_ros(recording: Path, tmp_path: Path) -> None:
    with BagReader(recording) as as_ros, BagReader(in_protobuf(recording, tmp_path / "in")) as bag:
        assert {topic: as_ros.types[topic] for topic in bag.types} == bag.types
        for topic in ("/camera/camera_info", IMAGE, "/tf", "/tf_static"):
            expected, got = as_ros.first(topic), bag.first(topic)
            if topic.startswith("/tf"):
                [expected], [got] = expected.transforms, got.transforms
                assert got.child_frame_id == expected.child_frame_id
                assert got.transform.rotation.w == expected.transform.rotation.w
            assert got.header.stamp.nanosec == expected.header.stamp.nanosec
            assert got.header.frame_id == expected.header.frame_id
            for name in "kdrp":
                np.testing.assert_array_equal(getattr(got, name, 0), getattr(expected, name, 0))


def test_images_in_json_are_read(tmp_path: Path, walk: Walk, recording: Path) -> None:
    content = {
        "timestamp": {"sec": 3, "nsec": 40},
        "frame_id": "lens",
        "format": "jpeg",
        "data": "/9j/4A==",
    }

    def add(writer: Any) -> None:
        schema = writer.register_schema("foxglove.CompressedImage", "jsonschema", b"{}")
        writer.add_message(writer.register_channel("/photo", "json", schema), 1, json.dumps(content).encode(), 1)

    with BagReader(in_mcap(recording, tmp_path / "in", profile="", extra=add)) as bag:
        assert bag.types["/photo"] == "sensor_msgs/msg/CompressedImage"
        photo = bag.first("/photo")
    assert (photo.header.stamp.sec, photo.header.stamp.nanosec, photo.header.frame_id) == (3, 40, "lens")
    assert (photo.format, photo.data) == ("jpeg", b"\xff\xd8\xff\xe0")


def test_what_lies_in_the_log_beside_a_file_is_read_and_left(walk: Walk, recording: Path, tmp_path: Path) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=SQLITE3)
    [file] = folder.glob("*.db3")
    source = tmp_path / "being_written.db3"
    shutil.copy(file, source)
    with sqlite3.connect(source) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        [topic] = database.execute("SELECT id FROM topics WHERE name = ?", [IMAGE]).fetchone()
        rows = database.execute("SELECT id, data FROM messages WHERE topic_id = ? ORDER BY id", [topic]).fetchall()
        again = [(topic, 2 * 10**18 + i, data) for i, (_, data) in enumerate(rows)]
        database.executemany("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", again)
        database.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{source}{suffix}", f"{file}{suffix}")
    database.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with BagReader(folder) as bag:
        assert bag.counts[IMAGE] == 2 * FRAMES
        assert sum(1 for _ in bag.messages([IMAGE])) == 2 * FRAMES
        assert (bag.damage, bag.end_ns) == (None, 2 * 10**18 + FRAMES)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


QOS = (
    "[{history: keep_last, depth: 10, reliability: reliable, durability: transient_local, "
    "deadline: {sec: 1, nsec: 0}, lifespan: {sec: 1, nsec: 0}, liveliness: automatic, "
    "liveliness_lease_duration: {sec: 1, nsec: 0}, avoid_ros_namespace_conventions: false}]"
)


@pytest.mark.parametrize("storage", [MCAP, SQLITE3])
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("offered_qos_profiles: []", f"offered_qos_profiles: {QOS}"),
        lambda text: text.replace("offered_qos_profiles: []", "offered_qos_profiles: [{history: hand_made}]"),
        lambda text: "",
        lambda text: text[: len(text) // 2],
        None,
    ],
)
def test_whole_files_are_a_whole_bag_whatever_became_of_its_metadata(
    walk: Walk, recording: Path, tmp_path: Path, storage: Any, edit: Any
) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=storage)
    metadata = folder / "metadata.yaml"
    if edit is None:
        metadata.unlink()
    else:
        edited = edit(metadata.read_text())
        assert edited != metadata.read_text()
        metadata.write_text(edited)
    assert_whole(folder, walk)


def test_counts_that_the_files_do_not_hold_are_told(
    walk: Walk, recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=SQLITE3)
    metadata = folder / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: ", "message_count: 9"))
    assert_whole(folder, walk)
    assert "metadata.yaml speaks of 9" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_files_are_found_by_their_folder_and_missed_where_they_are_not(
    walk: Walk, recording: Path, tmp_path: Path
) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=MCAP)
    [file] = folder.glob("*.mcap")
    assert_whole(folder / "metadata.yaml", walk)
    renamed = file.rename(folder / "renamed.mcap")
    assert_whole(folder, walk)
    metadata = folder / "metadata.yaml"
    metadata.write_text(re.sub(r"( *)- in.mcap", r"\1- renamed.mcap\n\1- in_1.mcap", metadata.read_text()))
    with BagReader(folder) as bag:
        assert bag.damage == f"{folder} is damaged (its in_1.mcap is missing)"
    renamed.unlink()
    with pytest.raises(InputError, match=r"holds no file ending in .mcap, .db3, .bag: give the folder of a bag"):
        BagReader(folder)
    with pytest.raises(InputError, match="name one of the bags in it, in"):
        BagReader(tmp_path)


def test_split_bags_of_ros1_are_one_bag(tmp_path: Path) -> None:
    store, kind = get_typestore(Stores.ROS1_NOETIC), "std_msgs/msg/Header"
    for part in (1, 0, 2):
        with rosbag1.Writer(tmp_path / f"drive_{part}.bag") as writer:
            to = writer.add_connection("/header", kind, typestore=store)
            for i in range(4 * part, 4 * part + 4):
                stamp = store.types["builtin_interfaces/msg/Time"](sec=i, nanosec=0)
                header = store.types[kind](seq=i, stamp=stamp, frame_id="")
                writer.write(to, i * 10**9, store.serialize_ros1(header, kind))
    with BagReader(tmp_path) as bag:
        assert bag.counts == {"/header": 12}
        assert [bag.decode(message).seq for message in bag.messages(["/header"])] == list(range(12))
        assert [message.time_ns for message in bag.messages(["/header"], 3 * 10**9, 6 * 10**9)] == [
            3 * 10**9,
            4 * 10**9,
            5 * 10**9,
        ]


def test_files_that_were_compressed_as_a_whole_are_read_without_metadata(
    walk: Walk, recording: Path, tmp_path: Path
) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=SQLITE3, compression=rosbag2.CompressionMode.FILE)
    (folder / "metadata.yaml").unlink()
    assert_whole(folder, walk)
