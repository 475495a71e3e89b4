# SPDX-License-Identifier: Apache-2.0
"""Bags whose files become links between the check of a name and its use, and links laid where a bag is written."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import bags
import lz4.frame
import pytest
from backports import zstd
from rosbags import rosbag1
from rosbags.typesys import Stores, get_typestore

import da3_core.bag.ros1_file
import da3_core.bag.unpacked
from da3_core.bag.channel import decompressed
from da3_core.bag.read import METADATA, BagReader
from da3_core.bag.sqlite_file import LOG_SUFFIX
from da3_core.bag.write import BagWriter
from da3_core.errors import InputError
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.storage.opened_folder import OpenedFolder
from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag


def ros1_file(path: Path, compression: str = "") -> Path:
    store, kind = get_typestore(Stores.ROS1_NOETIC), "std_msgs/msg/Header"
    header = store.types[kind](seq=0, stamp=store.types["builtin_interfaces/msg/Time"](1, 0), frame_id="map")
    writer = rosbag1.Writer(path)
    if compression:
        writer.set_compression(rosbag1.Writer.CompressionFormat[compression])
    with writer:
        to = writer.add_connection("/header", kind, typestore=store)
        writer.write(to, 10**9, store.serialize_ros1(header, kind))
    return path


@pytest.fixture(scope="module")
def originals(walk: Walk, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bag of every storage, by the ending of its file."""
    folder = tmp_path_factory.mktemp("originals")
    walk = bags.part_of(walk, slice(2))
    mcap = write_bag(walk, folder / "mcap")
    sqlite = write_bag(walk, folder / "sqlite", storage="sqlite3")
    (folder / "zstd").mkdir()
    (folder / "zstd/mcap_0.mcap.zstd").write_bytes(zstd.compress(next(mcap.glob("*.mcap")).read_bytes()))
    ros1 = ros1_file(folder / "walk.bag")
    return {".mcap": mcap, ".db3": sqlite, ".zstd": folder / "zstd", ".bag": ros1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def allowed(root: Path) -> AllowedFolders:
    return AllowedFolders.of_parameter("bag.root", str(root))


def copied(original: Path, to: Path) -> Path:
    return Path(shutil.copytree(original, to) if original.is_dir() else shutil.copyfile(original, to))


@pytest.mark.parametrize("ending", [".mcap", ".db3", ".zstd", ".bag"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_swapped_in_after_the_check_is_not_read(
    originals: dict[str, Path], root: Path, allowed: AllowedFolders, ending: str, what: str
) -> None:
    """The secret is as good a bag; the one that was checked is read while it is there."""
    original = originals[ending]
    (root / "trip").mkdir()
    name = "trip" if original.is_dir() else "trip/walk.bag"
    if original.is_dir():
        (root / name).rmdir()
    copied(original, root / name)
    secret = root.parent / "secret"
    shutil.copytree(root / "trip", secret)
    path = allowed.bag(name)
    with BagReader(path, allowed.open_file) as bag:
        assert sum(1 for _ in bag.messages(bag.types)) > 0

    swapped = root / "trip" if what == "folder" else next(file for file in (root / "trip").iterdir() if _holds(file))
    target = secret if what == "folder" else secret / swapped.name
    swapped.rename(root / "moved")
    swapped.symlink_to(target)
    with pytest.raises(InputError, match=r"leads out|nothing of it can be read"):
        BagReader(path, allowed.open_file)


def _holds(file: Path) -> bool:
    return file.name != METADATA


def test_what_sqlite_has_opened_is_what_was_checked(
    originals: dict[str, Path], root: Path, allowed: AllowedFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens by path: a link that is there at that moment alone is noticed too."""
    copied(originals[".db3"], root / "trip")
    [file] = (root / "trip").glob("*.db3")
    (root.parent / "secret.db3").write_bytes(file.read_bytes())
    connect = sqlite3.connect

    def swap(*arguments: Any, **named: Any) -> Any:
        file.rename(root / "moved")
        file.symlink_to(root.parent / "secret.db3")
        database = connect(*arguments, **named)
        file.unlink()
        (root / "moved").rename(file)
        return database

    monkeypatch.setattr(sqlite3, "connect", swap)
    with pytest.raises(InputError, match="was moved or replaced meanwhile"):
        BagReader(allowed.bag("trip"), allowed.open_file)


def test_a_log_that_is_a_link_is_not_read(originals: dict[str, Path], root: Path, allowed: AllowedFolders) -> None:
    copied(originals[".db3"], root / "trip")
    [file] = (root / "trip").glob("*.db3")
    path = allowed.bag("trip")
    (root.parent / "secret").write_text("secret")
    file.with_name(file.name + LOG_SUFFIX).symlink_to(root.parent / "secret")
    with pytest.raises(InputError, match="leads out"):
        BagReader(path, allowed.open_file)


@pytest.mark.parametrize("opening", ["plain", "allowed"])
def test_links_where_a_bag_is_written_lead_nowhere(root: Path, tmp_path: Path, opening: str) -> None:
    """The hidden folder of another run, or its parent, that somebody has replaced by a link to what is precious."""
    results = AllowedFolders.of_parameter("export.root", str(root))
    options: dict[str, Callable[[Path], AbstractContextManager[OpenedFolder]]]
    options = {"open_parent": results.opened} if opening == "allowed" else {}
    precious = tmp_path / "precious"
    (precious / "out").mkdir(parents=True)
    (precious / "lock").write_text("precious")
    (precious / "out/kept.txt").write_text("precious")
    (root / ".out.part").symlink_to(precious)
    with pytest.raises(InputError, match="link"):
        BagWriter(root / "out", "mcap", **options)
    (root / ".out.part").unlink()
    before = sorted(precious.rglob("*"))
    if opening == "allowed":
        (root / "below").symlink_to(precious)
        with pytest.raises(InputError, match="leads out"):
            BagWriter(root / "below/new", "mcap", **options)
    with BagWriter(root / "out", "mcap", **options):
        root.rename(tmp_path / "moved")
        root.symlink_to(precious)
    assert (tmp_path / "moved/out/metadata.yaml").is_file()
    assert sorted(precious.rglob("*")) == before
    assert (precious / "lock").read_text() == (precious / "out/kept.txt").read_text() == "precious"


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_what_grows_beyond_what_it_claims_is_not_unpacked(compression: str) -> None:
    """A chunk of a few kilobytes may be gigabytes without its compression."""
    make, compress = {
        "zstd": (zstd.ZstdDecompressor, zstd.compress),
        "lz4": (lz4.frame.LZ4FrameDecompressor, lz4.frame.compress),
    }[compression]
    content = bytes(100_000)
    packed = compress(content)
    assert decompressed(make, packed, len(content)) == content
    assert decompressed(make, packed + packed, 2 * len(content)) == 2 * content
    for most, given in ((len(content) - 1, packed), (1000, packed), (len(content), packed + packed)):
        with pytest.raises(ValueError, match="without its compression"):
            decompressed(make, given, most)
    with pytest.raises(ValueError, match="cut off"):
        decompressed(make, packed[:-3], len(content))


def test_a_file_that_grows_beyond_recordings_is_not_unpacked(
    originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(da3_core.bag.unpacked, "ALWAYS_ALLOWED", 1 << 20)
    bomb = tmp_path / "bomb.mcap.zstd"
    bomb.write_bytes(zstd.compress(bytes(20 << 20)))
    with pytest.raises(InputError, match=f"{bomb} is .* more than 1 MiB without its compression, .* unpack it") as told:
        BagReader(bomb)
    assert "damaged" not in str(told.value)
    monkeypatch.setattr(da3_core.bag.unpacked, "SPARED", 1 << 60)
    with pytest.raises(InputError, match="has room for"):
        BagReader(originals[".zstd"])
    assert list(tmp_path.iterdir()) == [bomb]


@pytest.mark.parametrize("compression", ["BZ2", "LZ4"])
def test_a_chunk_of_ros1_that_grows_beyond_memory_is_not_unpacked(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ros1_file(tmp_path / "walk.bag", compression)
    with BagReader(path) as bag:
        assert len(list(bag.messages(["/header"]))) == 1
        assert bag.damage is None
    monkeypatch.setattr(da3_core.bag.ros1_file, "MOST_BYTES", 40)
    with BagReader(path) as bag:
        assert not list(bag.messages(["/header"]))
        assert "larger than 40 bytes without its compression" in str(bag.damage)


def test_what_a_killed_run_unpacked_goes_with_the_next_one(
    originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "da3-bag-killed").mkdir()
    (tmp_path / "da3-bag-killed/walk.mcap").touch()
    BagReader(originals[".mcap"]).close()
    assert not list(tmp_path.iterdir())
    with BagReader(originals[".zstd"]):
        [one] = tmp_path.iterdir()
        with BagReader(originals[".zstd"]):
            assert one.is_dir(), "it is in use"
            assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())
