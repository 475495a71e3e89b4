# SPDX-License-Identifier: Apache-2.0
"""Files are whole for every reader, whoever else writes them, whatever ends the writer and whatever links lie there."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from da3_core.errors import InputError
from da3_core.storage.opened_folder import LinkError, OpenedFolder, opened
from da3_core.storage.staging import PREFIX, own_folder, staged, staged_file, staged_folder, write_atomically

STAGE = """
import sys
from pathlib import Path
from typing import Any
from da3_core.storage.staging import staged
with staged(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def stager(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing into the folder."""
    command = [sys.executable, "-c", STAGE, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)]


def write(folder: Path, *names: str) -> None:
    with staged(folder) as staging:
        for name in names:
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("new")


def below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_two_writers_never_mix_their_files(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([i]) * 1_000_000 for i in range(2)]
    write_atomically(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(30):
            write_atomically(path, content)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, content) for content in contents]
        while not all(writer.done() for writer in writers):
            assert path.read_bytes() in contents
    assert [writer.result() for writer in writers] == [None, None]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"cannot take the place of a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_folders_that_were_made_go_again_if_nothing_gets_into_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "new/deep") as staging:
        (staging / "missing/file").touch()
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "new/deep", "inner/file")
    assert below(tmp_path) == {"new/deep/inner/file": "new"}


def test_a_folder_in_place_of_a_file_is_found_before_anything_is_moved(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError, match="/b"):
        write(tmp_path, "a", "b", "c/d")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_a_killed_process_left_goes_with_the_next_writer_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    with stager(tmp_path) as killed, stager(tmp_path) as living:
        assert len(left_behind(tmp_path)) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        write_atomically(tmp_path / "other", b"")
        assert len(left_behind(tmp_path)) == 1
        living.communicate("go on")
        assert living.returncode == 0
    assert below(tmp_path) == {"half": "half", "other": ""}


def test_an_own_folder_of_another_name_is_treated_alike(tmp_path: Path) -> None:
    (tmp_path / "da3-left").mkdir()
    (tmp_path / "da3-left/file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").touch()
    (tmp_path / "da3-link").symlink_to("elsewhere")
    with opened(tmp_path) as parent, own_folder(parent, "da3-", 0o700) as folder:
        assert stat.S_IMODE((tmp_path / folder.name).stat().st_mode) == 0o700
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "da3-link", "elsewhere"}
    assert below(tmp_path / "elsewhere") == {"file": ""}
    assert not (tmp_path / folder.name).exists()


def test_modes_are_those_asked_for_and_usual_ones_otherwise(tmp_path: Path) -> None:
    usual = 0o666 & ~os.umask(os.umask(0o022) or 0o022)
    write_atomically(tmp_path / "usual", b"")
    (tmp_path / "secret").write_text("old")
    write_atomically(tmp_path / "secret", b"new", mode=0o600)
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == usual
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_link_in_place_of_a_file_is_replaced_and_one_out_of_the_folder_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").symlink_to(tmp_path / "secret/file")
    (tmp_path / "out/inner").symlink_to(tmp_path / "secret")
    (tmp_path / "out/real").mkdir()
    (tmp_path / "out/alias").symlink_to("real")
    with staged_file(tmp_path / "out/file") as file:
        file.write_text("new")
    with pytest.raises(InputError, match="leads out"):
        write(tmp_path / "out", "inner/file")
    write(tmp_path / "out", "alias/file")
    assert below(tmp_path / "secret") == {"file": "secret"}
    assert below(tmp_path / "out/real") == {"file": "new"}
    assert not (tmp_path / "out/file").is_symlink()


def test_a_folder_appears_at_once_and_never_over_another_unless_asked_for(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with staged_folder(tmp_path / "a/scene", replace=True) as staging:
            (staging / content).write_text(content)
            assert not (tmp_path / "a/scene" / content).exists()
        assert below(tmp_path / "a/scene") == {content: content}
    (tmp_path / "a/empty").mkdir()
    for taken in ("scene", "empty"):
        with pytest.raises(FileExistsError), staged_folder(tmp_path / "a" / taken) as staging:
            (staging / "third").touch()
    assert below(tmp_path) == {"a/scene/second": "second"}


@pytest.mark.parametrize("replaced", ["a", "a/b", "a/b/c"])
def test_an_opened_folder_stays_itself_when_its_name_or_a_parent_becomes_a_link(tmp_path: Path, replaced: str) -> None:
    for folder in (tmp_path / "a/b/c", tmp_path / "trap/b/c", tmp_path / "trap/c"):
        folder.mkdir(parents=True)
    with staged(tmp_path / "a/b/c") as staging:
        (staging / "file").write_text("new")
        (tmp_path / replaced).rename(tmp_path / "moved")
        (tmp_path / replaced).symlink_to(tmp_path / "trap")
    assert below(tmp_path / "trap") == {}
    assert list(below(tmp_path / "moved").values()) == ["new"]
    with pytest.raises(LinkError, match="is a link"):
        OpenedFolder.at(tmp_path / "a/b/c")


@pytest.mark.parametrize("at", [0, 1])
def test_a_disk_that_fails_between_two_files_is_told_with_how_many_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Before the first file nothing has changed, and the error stays what it is."""
    target, replace, moved = tmp_path / "out", os.replace, []

    def fail(*arguments: Any, **named: Any) -> None:
        if len(moved) == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        moved.append(arguments)
        replace(*arguments, **named)

    expected: tuple[type[Exception], str] = (OSError, "Input/output error")
    if at:
        expected = (InputError, r"only 1 of 3 files could be put into .*out \(Input/output error\): make room")
    with pytest.raises(expected[0], match=expected[1]), staged(target) as staging:  # noqa: PT012
        for name in "abc":
            (staging / name).write_text(name)
        monkeypatch.setattr(os, "replace", fail)
    assert [path.name for path in target.glob("*")] == ["a"][:at]
