# SPDX-License-Identifier: Apache-2.0
"""Nothing gets out of the folder that requests may name things in, and nothing is ever seen half-written in it."""

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from da3_core.errors import InputError
from da3_core.export import export
from da3_core.prediction import Prediction
from da3_core.preprocessing import decode
from da3_core.storage.allowed_folders import AllowedFolders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    return tmp_path / "root"


def allowed(root: Path) -> AllowedFolders:
    return AllowedFolders.of_parameter("export.root", str(root))


def two_files(folder: Path) -> None:
    (folder / "exports").mkdir()
    (folder / "a.txt").write_text("new a")
    (folder / "exports/b.txt").write_text("new b")


def everything_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_root_is_a_real_absolute_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    def path_of(value: str) -> Path:
        return AllowedFolders.of_parameter("export.root", value).root

    assert path_of("~/da3_exports") == tmp_path / "da3_exports"
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert path_of(str(tmp_path / "link/x")) == tmp_path / "disk/x"
    for refused in ("exports", "../exports", "~no_such_user_here/exports"):
        with pytest.raises(InputError, match=r"export\.root"):
            path_of(refused)


@pytest.mark.parametrize(
    ("directory", "folder"),
    [
        ("", "."),
        (".", "."),
        ("a", "a"),
        ("a/b c/é", "a/b c/é"),
        ("a//b/./c/", "a/b/c"),
        ("...", "..."),
        ("a..b", "a..b"),
    ],
)
def test_names_inside_are_taken(root: Path, directory: str, folder: str):
    assert allowed(root).folder(directory) == root / folder


@pytest.mark.parametrize(
    "directory",
    [
        *("..", "../secret", "a/../../secret", "a/..", "a/../b", "./..", "/", "/tmp", "//tmp", "~", "~root/x"),
        *("a\0b", "a\nb", "\x1b[2J", "n" * 256, "ä" * 128, "a/" * 2000),
        *("out", "out/a", "in/../..", "inner/out_again/x", "loop", "loop/x", "file", "file/x"),
    ],
)
def test_ways_out_are_refused(root: Path, directory: str):
    (root / "out").symlink_to(root.parent / "secret")
    (root / "inner").mkdir()
    (root / "inner/out_again").symlink_to("../../secret")
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("")
    with pytest.raises(InputError) as refusal:
        allowed(root).folder(directory)
    assert str(refusal.value).isprintable()


def test_a_link_that_stays_inside_is_followed(root: Path):
    (root / "newest").symlink_to("run_7")
    assert allowed(root).folder("newest/x") == root / "run_7/x"


def test_a_folder_of_another_user_is_refused(root: Path):
    """As root one is made; anybody else finds one, such as /usr."""
    if os.geteuid() != 0:
        with pytest.raises(InputError, match="another user"):
            allowed(Path("/")).folder("usr/x")
        return
    (root / "alice").mkdir()
    os.chown(root / "alice", 12345, 12345)
    for directory in ("alice", "alice/x/y"):
        with pytest.raises(InputError, match="another user"):
            allowed(root).folder(directory)
    (root / "trip").mkdir()
    for name in ("alice/walk.mcap", "trip/trip_0.mcap", "walk.mcap"):
        (root / name).write_text("")
        os.chown(root / name, 12345, 12345)
    for name in ("alice", "alice/walk.mcap", "trip", "walk.mcap"):
        with pytest.raises(InputError, match="another user"):
            allowed(root).bag(name)


def test_files_are_moved_over_those_of_the_same_name_and_others_stay(root: Path):
    (root / "run").mkdir()
    (root / "run/a.txt").write_text("old a")
    (root / "run/mine.txt").write_text("mine")
    written = allowed(root).export_folder("run").write(two_files)
    assert written == [root / "run/a.txt", root / "run/exports/b.txt"]
    assert everything_below(root) == {"run/a.txt": "new a", "run/mine.txt": "mine", "run/exports/b.txt": "new b"}
    assert list(root.iterdir()) == [root / "run"]


def test_a_writer_that_fails_leaves_everything_as_it_was(root: Path):
    (root / "a.txt").write_text("old a")

    def fail(folder: Path) -> None:
        two_files(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        allowed(root).export_folder("").write(fail)
    with pytest.raises(OSError, match="No space"):
        allowed(root).export_folder("new").write(fail)
    assert everything_below(root) == {"a.txt": "old a"}
    assert list(root.iterdir()) == [root / "a.txt"]


def test_links_below_the_folder_lead_nowhere_else(root: Path):
    """A folder of the exporter's own may be a link that somebody laid there; a link in place of a file is replaced."""
    (root / "run").mkdir()
    (root.parent / "secret/a.txt").write_text("secret")
    (root / "run/a.txt").symlink_to(root.parent / "secret/a.txt")
    (root / "run/exports").symlink_to(root.parent / "secret")
    with pytest.raises(InputError, match="leads out"):
        allowed(root).export_folder("run").write(two_files)
    assert everything_below(root.parent / "secret") == {"a.txt": "secret"}

    (root / "run/exports").unlink()
    allowed(root).export_folder("run").write(two_files)
    assert everything_below(root.parent / "secret") == {"a.txt": "secret"}
    assert everything_below(root / "run") == {"a.txt": "new a", "exports/b.txt": "new b"}


def test_nothing_is_moved_if_not_everything_can_be(root: Path):
    (root / "exports/b.txt").mkdir(parents=True)
    with pytest.raises(InputError, match="Is a directory"):
        allowed(root).export_folder("").write(two_files)
    assert not (root / "a.txt").exists()


def test_a_recording_is_a_file_or_a_folder_of_files(root: Path):
    (root / "trip").mkdir()
    (root / "trip/trip_0.mcap").write_text("")
    (root / "trip/metadata.yaml").symlink_to("../metadata.yaml")
    (root / "metadata.yaml").write_text("")
    for name in ("trip", "trip/trip_0.mcap"):
        assert allowed(root).bag(name) == root / name
    with pytest.raises(InputError, match="there is no 'other'"):
        allowed(root).bag("other")


def test_no_recording_leads_elsewhere(root: Path):
    (root.parent / "secret/walk.mcap").write_text("")
    (root / "out.mcap").symlink_to(root.parent / "secret/walk.mcap")
    (root / "out").symlink_to(root.parent / "secret")
    (root / "trip").mkdir()
    (root / "trip/trip_0.mcap").symlink_to(root.parent / "secret/walk.mcap")
    (root / "pipes").mkdir()
    os.mkfifo(root / "pipes/trip_0.mcap")
    os.mkfifo(root / "pipe.mcap")
    for name in ("../secret/walk.mcap", str(root.parent / "secret/walk.mcap"), "out.mcap", "out", "out/walk.mcap"):
        with pytest.raises(InputError, match=r"leads out|relative"):
            allowed(root).bag(name)
    with pytest.raises(InputError, match="leads out"):
        allowed(root).bag("trip")
    for name in ("pipes", "pipe.mcap"):
        with pytest.raises(InputError, match="no ordinary file"):
            allowed(root).bag(name)


def test_an_image_that_becomes_a_link_after_the_check_is_neither_decoded_nor_copied(tmp_path: Path):
    """Also where the link is gone again before anybody looks whether it came."""
    own, secret, moved = tmp_path / "root/own.png", tmp_path / "secret.png", tmp_path / "moved.png"
    own.parent.mkdir()
    for path, colour in ((own, 10), (secret, 200)):
        PIL.Image.new("RGB", (8, 6), (colour,) * 3).save(path)
    image = AllowedFolders.of_backend([own.parent]).input_image(str(own))
    prediction = Prediction(
        depth=np.ones((1, 6, 8), np.float32),
        is_metric=1,
        extrinsics=np.eye(4, dtype=np.float32)[None],
        intrinsics=np.array([[[8, 0, 4], [0, 8, 3], [0, 0, 1]]], np.float32),
        processed_images=np.zeros((1, 6, 8, 3), np.uint8),
    )

    def copy(folder: Path) -> bytes:
        options = {"colmap": {"copy_images": True, "image_names": [image]}}
        export(prediction, folder, "colmap", export_kwargs=options)
        return (folder / "images/own.png").read_bytes()

    assert decode(image).max() == 10
    assert copy(tmp_path / "first") == own.read_bytes()
    own.rename(moved)
    own.symlink_to(secret)
    with pytest.raises(InputError, match="leads out"):
        decode(image)
    with pytest.raises(InputError, match="leads out"):
        copy(tmp_path / "second")
    own.unlink()
    moved.rename(own)
    assert decode(image).max() == 10
