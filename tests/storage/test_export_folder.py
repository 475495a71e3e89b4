# SPDX-License-Identifier: Apache-2.0
"""What an existing export folder may lose, and what it never loses."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from da3_core.cli.ask import ask_to_empty
from da3_core.errors import InputError
from da3_core.storage.export_folder import MARKER, ExportFolder, choose_export_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own world: a home folder, a working folder below it and an input beside that."""
    for name in ("home/project", "data/photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/photos/1.png").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home/project")
    return tmp_path


def choose(
    path: Path, place: Path, *, auto: bool = False, force: bool = False, overwrite: bool = False
) -> ExportFolder:
    return choose_export_folder(
        path,
        [place / "data/photos"],
        auto_cleanup=auto,
        force_cleanup=force,
        overwrite=overwrite,
        ask=ask_to_empty,
    )


def filled(folder: Path, *, ours: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "old.npz").write_text("old")
    (folder / "sub").mkdir()
    (folder / "sub/old.jpg").touch()
    if ours:
        (folder / MARKER).touch()
    return folder


def test_new_and_empty_folders_need_no_permission_and_become_ours(place: Path) -> None:
    (place / "empty").mkdir()
    for path in (place / "new/deep", place / "empty"):
        choose(path, place).prepare()
        assert [child.name for child in path.iterdir()] == [MARKER]


def test_nothing_is_touched_until_the_first_file_is_ready_and_later_calls_delete_nothing(place: Path) -> None:
    folder = choose(filled(place / "out", ours=True), place, auto=True)
    assert (place / "out/old.npz").exists()
    folder.prepare()
    assert [child.name for child in (place / "out").iterdir()] == [MARKER]
    (place / "out/new.npz").touch()
    folder.prepare()
    assert (place / "out/new.npz").exists()


def write(folder: ExportFolder, *names: str) -> None:
    with folder.staging() as staging:
        for name in names:
            (staging / name).mkdir() if name.endswith("/") else (staging / name).write_text("new")


def test_results_replace_what_was_there_only_once_they_are_complete(place: Path) -> None:
    folder = choose(filled(place / "out", ours=True), place, auto=True)
    with pytest.raises(FileNotFoundError):
        write(folder, "new.npz", "missing/new.npz")
    assert sorted(child.name for child in (place / "out").iterdir()) == [MARKER, "old.npz", "sub"]
    write(folder, "exports/", "exports/new.npz")
    assert sorted(path.relative_to(place / "out").as_posix() for path in (place / "out").rglob("*")) == [
        MARKER,
        "exports",
        "exports/new.npz",
    ]


def test_a_new_folder_disappears_when_nothing_gets_into_it(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(choose(place / "new/deep", place), "missing/new.npz")
    assert not (place / "new").exists()


def test_results_do_not_leave_the_folder_through_links_in_it(place: Path) -> None:
    out = filled(place / "out", ours=True)
    (out / "exports").symlink_to(place / "data/photos")
    (out / "old.npz").unlink()
    (out / "old.npz").symlink_to(place / "data/photos/1.png")
    with pytest.raises(InputError, match="leads out"):
        write(choose(out, place, overwrite=True), "exports/", "exports/1.png")
    write(choose(out, place, overwrite=True), "old.npz")
    assert (place / "data/photos/1.png").read_text() == ""
    assert [child.name for child in (place / "data/photos").iterdir()] == ["1.png"]
    assert not (out / "old.npz").is_symlink()


def test_links_within_a_folder_are_removed_without_following_them(place: Path) -> None:
    out = filled(place / "out", ours=True)
    (out / "link").symlink_to(place / "data/photos")
    choose(out, place, auto=True).prepare()
    assert (place / "data/photos/1.png").exists()
    assert not (out / "link").is_symlink()


def test_a_folder_that_da3_did_not_create_is_emptied_only_by_force(place: Path) -> None:
    out = filled(place / "out", ours=False)
    with pytest.raises(InputError, match="force_cleanup"):
        choose(out, place, auto=True)
    choose(out, place, force=True).prepare()
    assert [child.name for child in out.iterdir()] == [MARKER]


def test_overwriting_keeps_files_and_does_not_claim_a_foreign_folder(place: Path) -> None:
    foreign, own = filled(place / "foreign", ours=False), filled(place / "own", ours=True)
    choose(foreign, place, overwrite=True).prepare()
    choose(own, place, overwrite=True).prepare()
    assert (foreign / "sub/old.jpg").exists()
    assert (own / "sub/old.jpg").exists()
    assert not (foreign / MARKER).exists()


@pytest.mark.parametrize("target", [".", "..", "/", "~", "../../data", "../../data/photos", "../../photos-link"])
def test_emptying_what_holds_the_input_the_home_or_the_current_folder_is_refused(place: Path, target: str) -> None:
    (place / "photos-link").symlink_to(place / "data/photos")
    filled(place / "home/project/inner", ours=True)  # so that the current folder is not empty
    for folder in (place / "home", place / "home/project", place / "data", place / "data/photos"):
        (folder / MARKER).touch()
    with pytest.raises(InputError, match="would delete"):
        choose(Path(target).expanduser(), place, force=True)
    assert (place / "data/photos/1.png").exists()


def test_without_a_terminal_an_existing_folder_is_refused_with_the_way_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    with pytest.raises(InputError, match="--auto-cleanup"):
        choose(filled(place / "out", ours=True), place)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_at_a_terminal_is_asked_and_may_decline(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = filled(place / "out", ours=True)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(typer.Exit) as declined:
        choose(out, place)
    assert declined.value.exit_code == 0
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert choose(out, place).empty_first
    assert capsys.readouterr().out == ""


def test_a_file_or_a_place_below_a_file_is_no_export_folder(place: Path) -> None:
    (place / "file").touch()
    for path in (place / "file", place / "file/out"):
        with pytest.raises(InputError, match="no writable folder"):
            choose(path, place)


HOLD = """
import sys
from pathlib import Path
from da3_core.storage.export_folder import choose_export_folder
folder = choose_export_folder(
    Path(sys.argv[1]), [], auto_cleanup=True, force_cleanup=False, overwrite=False, ask=lambda path: None
)
with folder.held(), folder.staging() as staging:
    (staging / "first.npz").write_text("first")
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is about to put `first.npz` into the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_runs_into_one_folder_do_not_lose_the_results_of_the_first(place: Path) -> None:
    second = choose(place / "out", place)
    with another_run(place / "out") as first:
        with pytest.raises(InputError, match="another run is writing into"):
            write(second, "second.npz")
        first.communicate("go on")
        assert first.returncode == 0
    with pytest.raises(InputError, match=r"first\.npz came into the export folder meanwhile"):
        write(second, "first.npz")
    assert (place / "out/first.npz").read_text() == "first"
    write(second, "second.npz")
    assert names_in(place / "out") == [MARKER, "first.npz", "second.npz"]


def test_the_folder_of_a_killed_run_is_free_and_new(place: Path) -> None:
    with another_run(place / "out") as first:
        first.kill()
        first.wait()
    assert len(names_in(place / "out")) == 1  # of the staging folder
    write(choose(place / "out", place), "new.npz")
    assert names_in(place / "out") == [MARKER, "new.npz"]


def test_what_came_or_changed_after_the_look_is_not_emptied(place: Path) -> None:
    out = filled(place / "out", ours=True)
    (out / "changed.txt").write_text("old")
    folder = choose(out, place, auto=True)
    (out / "sub/new.jpg").touch()
    (out / "new").mkdir()
    (out / "changed.txt").write_text("of somebody else")
    write(folder, "result.npz")
    assert names_in(out) == [MARKER, "changed.txt", "new", "result.npz", "sub"]
    assert names_in(out / "sub") == ["new.jpg"]


def test_inputs_that_are_links_into_the_folder_survive(place: Path) -> None:
    out = filled(place / "out", ours=True)
    photos, chosen = place / "data/photos", place / "chosen"
    for link, target in (("2.jpg", out / "sub/old.jpg"), ("more", out / "sub"), ("3.jpg", place / "chain.jpg")):
        (photos / link).symlink_to(target)
        (place / "chain.jpg").unlink(missing_ok=True)
        (place / "chain.jpg").symlink_to(out / "sub/old.jpg")
        for force in (False, True):
            with pytest.raises(InputError, match=rf"would delete the input .*photos/{link}"):
                choose(out, place, auto=True, force=force)
        (photos / link).unlink()
    chosen.mkdir()  # a folder of links, itself behind a link
    (chosen / "4.jpg").symlink_to(out / "sub/old.jpg")
    (photos / "chosen").symlink_to(chosen)
    with pytest.raises(InputError, match=r"would delete the input .*chosen/4\.jpg"):
        choose(out, place, auto=True)
    (photos / "chosen").unlink()
    (photos / "loop").symlink_to("loop")
    (photos / "itself").symlink_to(photos)
    choose(out, place, auto=True).prepare()
    assert names_in(out) == [MARKER]


@pytest.mark.parametrize("replaced", ["work/out", "work"])
def test_a_folder_that_becomes_a_link_leads_nowhere(place: Path, replaced: str) -> None:
    """Neither before the first file is written nor while results are computed."""
    trap = filled(place / "trap", ours=True)
    filled(trap / "out", ours=True)
    out = filled(place / "work/out", ours=True)

    def replace_folder() -> None:
        (place / replaced).rename(place / "moved")
        (place / replaced).symlink_to(trap)

    def restore() -> None:
        (place / replaced).unlink()
        (place / "moved").rename(place / replaced)

    everything = sorted(trap.rglob("*"))
    folder = choose(out, place, auto=True)
    replace_folder()
    with pytest.raises(InputError, match="is a link"):
        folder.prepare()
    restore()
    with folder.held():
        replace_folder()
        for attempt in (folder.prepare, lambda: write(folder, "new.npz")):
            with pytest.raises(InputError, match="was moved or replaced meanwhile"):
                attempt()
        restore()
    assert sorted(trap.rglob("*")) == everything
    assert names_in(out) == [MARKER, "old.npz", "sub"]


def test_a_marker_that_is_a_link_is_no_marker_and_overwrites_nothing(place: Path) -> None:
    photo = place / "data/photos/1.png"
    photo.write_text("photo")
    out = place / "out"
    out.mkdir()
    folder = choose(out, place)
    (out / MARKER).symlink_to(photo)
    write(folder, "new.npz")
    folder.mark()
    assert photo.read_text() == "photo"
    assert not (out / MARKER).is_symlink()

    (out / MARKER).unlink()
    (out / MARKER).symlink_to(photo)
    with pytest.raises(InputError, match="did not write"):
        choose(out, place, auto=True)
