# SPDX-License-Identifier: Apache-2.0
"""Bags that are damaged, places that cannot be written, and processes that are killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from da3_core.errors import InputError
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.bag import write_bag
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

import bags
import others_bags
from bags import MCAP, SQLITE3, part_of, read, rewritten, stamps
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

from da3_core.bag.read import BagReader
from da3_core.bag.write import BagWriter, OutputError

IMAGE = "/camera/image_raw"
FRAMES = 8
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def walk() -> Walk:
    return part_of(room_walk(frames=24, size=(126, 168), seed=5), slice(0, FRAMES))


@pytest.fixture(scope="module")
def recording(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(walk, tmp_path_factory.mktemp("recording") / "bag")


def images_of(folder: Path) -> tuple[int, str | None]:
    """How many can be read, and the damage."""
    with BagReader(folder) as bag:
        return sum(1 for _ in bag.messages([IMAGE])), bag.damage


def cut(recording: Path, folder: Path, storage: Any, share: float, has_metadata: bool) -> Path:
    rewritten(recording, folder, storage=storage)
    [file] = [*folder.glob("*.mcap"), *folder.glob("*.db3")]
    os.truncate(file, int(file.stat().st_size * share))
    if not has_metadata:
        (folder / "metadata.yaml").unlink()
    return folder


@pytest.mark.parametrize("has_metadata", [True, False])
@pytest.mark.parametrize("storage", [MCAP, SQLITE3])
def test_cut_file_is_read_up_to_the_cut(
    walk: Walk, recording: Path, tmp_path: Path, storage: Any, has_metadata: bool
) -> None:
    for share in (0.0, 1e-5):
        with pytest.raises(InputError, match="nothing of it can be read"):
            images_of(cut(recording, tmp_path / f"{share}", storage, share, has_metadata))
    count, damage = images_of(cut(recording, tmp_path / "end", storage, 0.9999, has_metadata))
    assert count >= FRAMES - 1
    assert damage is not None
    folder = cut(recording, tmp_path / "in", storage, 0.7, has_metadata)
    summary = bags.process(folder, tmp_path / "out", ExactModel(walk, is_metric=True))
    assert 2 <= summary.frames < FRAMES
    assert "is damaged" in (summary.damage or "")
    assert stamps(read(tmp_path / "out")) == list(range(summary.frames))


@pytest.mark.parametrize("storage", [MCAP, SQLITE3])
def test_compressed_messages_are_read_without_the_file_that_tells_of_it(
    recording: Path, tmp_path: Path, storage: Any
) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=storage, compression=rosbag2.CompressionMode.MESSAGE)
    (folder / "metadata.yaml").write_text("{ no yaml")
    with BagReader(folder) as bag:
        assert bag.damage is None
        assert [bag.decode(each).encoding for each in bag.messages([IMAGE])] == ["rgb8"] * FRAMES


def test_cut_ros1_bag_is_read_up_to_the_last_whole_chunk(tmp_path: Path) -> None:
    store, path = get_typestore(Stores.ROS1_NOETIC), tmp_path / "in.bag"
    kind = "std_msgs/msg/Header"
    writer = rosbag1.Writer(path)
    writer.chunk_threshold = 1000
    writer.set_compression(rosbag1.Writer.CompressionFormat.BZ2)
    with writer:
        to = writer.add_connection("/header", kind, typestore=store)
        for i in range(200):
            time = store.types["builtin_interfaces/msg/Time"](sec=i, nanosec=0)
            header = store.types[kind](seq=i, stamp=time, frame_id="a frame")
            writer.write(to, i * 10**9, store.serialize_ros1(header, kind))
    whole = path.read_bytes()
    for share, least in ((0.5, 20), (0.7, 80), (0.99, 190)):
        path.write_bytes(whole[: int(len(whole) * share)])
        with BagReader(path) as bag:
            assert bag.damage
            found = [bag.decode(message).seq for message in bag.messages(["/header"])]
            assert found == list(range(bag.counts["/header"]))
            assert len(found) >= least
    path.write_bytes(whole[:10])
    with pytest.raises(InputError, match="nothing of it can be read"):
        BagReader(path)


def test_overwritten_bytes_in_a_chunk_end_what_is_read(recording: Path, tmp_path: Path) -> None:
    folder = rewritten(recording, tmp_path / "in", storage=MCAP, compression=rosbag2.CompressionMode.STORAGE)
    [file] = folder.glob("*.mcap")
    chunks = [match.start() for match in re.finditer(re.escape(b"\x28\xb5\x2f\xfd"), file.read_bytes())]
    with file.open("r+b") as bag:
        bag.seek(chunks[len(chunks) // 2])
        bag.write(b"no zstd")
    with BagReader(folder) as read_bag:
        read_topics = [message.topic for message in read_bag.messages(read_bag.types)]
        assert 0 < read_topics.count(IMAGE) < FRAMES
        assert "is damaged" in (read_bag.damage or "")


def test_overwritten_index_is_made_again(recording: Path, tmp_path: Path) -> None:
    shutil.copytree(recording, tmp_path / "in")
    [file] = (tmp_path / "in").glob("*.mcap")
    with file.open("r+b") as bag:
        bag.seek(-2000, os.SEEK_END)
        bag.write(b"\xa5" * 300)
    count, damage = images_of(tmp_path / "in")
    assert count == FRAMES
    assert "is damaged" in (damage or "")


def test_message_that_is_none_is_left_out_and_told(walk: Walk, recording: Path, tmp_path: Path) -> None:
    """The storage is whole, so that what comes after can be read."""
    store, kind = get_typestore(Stores.LATEST), "sensor_msgs/msg/Image"
    with BagReader(recording) as bag, rosbag2.Writer(tmp_path / "in", version=9, storage_plugin=MCAP) as writer:
        to = writer.add_connection(IMAGE, kind, typestore=store)
        for i, message in enumerate(bag.messages([IMAGE])):
            writer.write(to, message.time_ns, message.raw[:20] if i == 2 else message.raw)
    summary = bags.process(tmp_path / "in", tmp_path / "out", ExactModel(walk))
    assert (summary.frames, summary.refused) == (FRAMES - 1, {"damage": 1})
    assert "a message of /camera/image_raw" in (summary.damage or "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_full_disk_is_told_in_a_sentence_and_nothing_is_left(
    walk: Walk, recording: Path, small_disk: Path, storage: str
) -> None:
    with pytest.raises(OutputError, match=r"^cannot write .*/out \(.*(space|full).*\): make room"):
        bags.process(recording, small_disk / "out", ExactModel(walk), storage=storage, copy_topics="all")
    assert not list(small_disk.iterdir())


def test_read_only_place_is_told_in_a_sentence(walk: Walk, recording: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match=r"\(Read-only file system\): make room or choose another place"):
        bags.process(recording, small_disk / "out", ExactModel(walk))


def test_kill_leaves_the_input_and_a_hidden_part_that_the_next_run_removes(
    walk: Walk, recording: Path, tmp_path: Path
) -> None:
    before = {file.name: file.read_bytes() for file in recording.iterdir()}
    endless = "import sys, time, bag_memory; bag_memory.process(*sys.argv[1:], advance=lambda count: time.sleep(0.2))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    command = [sys.executable, "-c", endless, str(recording), str(tmp_path / "out")]
    part = tmp_path / ".out.part"
    with subprocess.Popen(command, env=environment) as child:
        while child.poll() is None and not any(file.stat().st_size > 2e6 for file in part.glob("out/*.mcap")):
            time.sleep(0.02)
        with pytest.raises(InputError, match="another process is writing"):
            BagWriter(tmp_path / "out", "mcap")
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert {file.name: file.read_bytes() for file in recording.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [part.name]
    with BagReader(part / "out") as bag:  # up to the last chunk
        assert bag.damage
        assert 1 <= sum(1 for _ in bag.messages(["/da3/depth/image"])) < FRAMES
    bags.process(recording, tmp_path / "out", ExactModel(walk))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert stamps(read(tmp_path / "out")) == list(range(FRAMES))


def test_damaged_messages_of_other_topics_take_nothing_else(walk: Walk, recording: Path, tmp_path: Path) -> None:
    """Transforms, calibration and what is copied, each of ROS 2 and of ROS 1."""
    store = get_typestore(Stores.LATEST)
    with BagReader(recording) as bag, rosbag2.Writer(tmp_path / "in", version=9, storage_plugin=MCAP) as writer:
        to = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in bag.types.items()}
        for topic, connection in to.items():
            for i, message in enumerate(bag.messages([topic])):
                is_damaged = i == 2 and topic != IMAGE
                writer.write(connection, message.time_ns, message.raw[:20] if is_damaged else message.raw)
    model = ExactModel(walk, is_metric=True)
    summary = bags.process(tmp_path / "in", tmp_path / "out", model, copy_topics="all")
    assert (summary.frames, summary.refused) == (FRAMES, {})
    assert "a message of " in (summary.damage or "")
    ros1 = others_bags.in_ros1_mcap(recording, tmp_path / "old", damaged="/camera/depth")
    summary = bags.process(ros1, tmp_path / "out1", model, copy_topics="all")
    assert (summary.frames, summary.refused) == (FRAMES, {})
    assert "a message of /camera/depth" in (summary.damage or "")
    assert len(read(tmp_path / "out1")["/camera/depth"]) == FRAMES - 1
