# SPDX-License-Identifier: Apache-2.0
"""Paths that change between a check and their use: the folders of results, their parents, the marker, the images."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend_process import SLOW, TASK_S, BackendProcess

from da3_core.storage.export_folder import MARKER, ExportFolder

MOVED = "was moved or replaced meanwhile, so nothing was written"


@pytest.fixture
def trap(backend: BackendProcess, tmp_path: Path) -> Path:
    """Outside the allowed folders; it looks like a folder of results, in which an attacker has no right to anything."""
    for folder in (tmp_path / "trap", tmp_path / "trap/out"):
        folder.mkdir()
        (folder / MARKER).touch()
        (folder / "precious.txt").write_text("precious")
    return tmp_path / "trap"


def content(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def start_slow(backend: BackendProcess, photos: list[str], **request: Any) -> str:
    """The id of a task whose inference has begun."""
    task_id = backend.submit(image_paths=photos, export_format="mini_npz", **{**SLOW, **request})
    latest = time.monotonic() + TASK_S
    while backend.ask("GET", f"/task/{task_id}").json["progress"] < 0.3:
        assert time.monotonic() < latest
        time.sleep(0.01)
    return task_id


def replace_by_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(f"{path.name} moved"))
    path.symlink_to(target)


@pytest.mark.parametrize(("replaced", "auto_cleanup"), [("out", False), ("out", True), ("parent", True)])
def test_a_folder_that_becomes_a_link_while_its_task_runs_leads_nowhere(
    backend: BackendProcess, photos: list[str], trap: Path, replaced: str, auto_cleanup: bool
) -> None:
    parent = backend.workspace / f"{replaced} {auto_cleanup}"
    earlier = backend.wait(backend.submit(image_paths=photos, export_dir=str(parent / "out"), export_format="mini_npz"))
    assert earlier["status"] == "completed"
    before = content(trap)
    task_id = start_slow(backend, photos, export_dir=str(parent / "out"), auto_cleanup=auto_cleanup)
    replace_by_link(parent / "out" if replaced == "out" else parent, trap)
    task = backend.wait(task_id)
    assert (task["status"], MOVED in task["message"]) == ("failed", True)
    assert content(trap) == before
    there = Path(f"{parent} moved/out" if replaced == "parent" else f"{parent}/out moved")
    assert (there / "exports/mini_npz/results.npz").exists()  # the earlier results


def test_a_folder_that_becomes_a_link_while_its_task_waits_leads_nowhere(
    backend: BackendProcess, photos: list[str], trap: Path
) -> None:
    (backend.workspace / "waiting").mkdir()
    before = content(trap)
    running = start_slow(backend, photos)
    waiting = backend.submit(image_paths=photos, export_dir="waiting", auto_cleanup=True)
    replace_by_link(backend.workspace / "waiting", trap)
    backend.ask("DELETE", f"/task/{running}")
    task = backend.wait(waiting)
    assert (task["status"], "leads out" in task["message"]) == ("failed", True)
    assert content(trap) == before


def test_a_marker_that_is_a_link_overwrites_nothing(backend: BackendProcess, photos: list[str], trap: Path) -> None:
    before = content(trap)
    task_id = start_slow(backend, photos, export_dir="marked")
    (backend.workspace / "marked" / MARKER).symlink_to(trap / "precious.txt")
    assert backend.wait(task_id)["status"] == "completed"
    assert not (backend.workspace / "marked" / MARKER).is_symlink()
    assert content(trap) == before


def test_an_image_that_becomes_a_link_while_its_task_runs_gives_no_results(
    backend: BackendProcess, photos: list[str], tmp_path: Path
) -> None:
    image, secret = backend.workspace / "own.png", tmp_path / "secret.png"
    for path in (image, secret):
        path.write_bytes(Path(photos[0]).read_bytes())
    task_id = start_slow(backend, [*photos, str(image)], export_dir="of images")
    replace_by_link(image, secret)
    task = backend.wait(task_id)
    assert task["status"] == "failed"
    assert f"{image} {MOVED}" in task["message"] or f"{image} leads out" in task["message"]  # by then it was decoded
    assert not (backend.workspace / "of images").exists()


def test_results_are_not_read_through_a_link(backend: BackendProcess, photos: list[str], trap: Path) -> None:
    task = backend.wait(backend.submit(image_paths=photos, export_dir="read", export_format="mini_npz"))
    address = f"/task/{task['task_id']}/files/exports/mini_npz/results.npz"
    assert backend.ask("GET", address).status == 200
    (trap / "exports/mini_npz").mkdir(parents=True)
    (trap / "exports/mini_npz/results.npz").write_text("secret")
    replace_by_link(backend.workspace / "read", trap)
    assert backend.ask("GET", address).status == 404


def test_inputs_that_are_links_into_the_folder_to_be_emptied_survive(
    backend: BackendProcess, photos: list[str]
) -> None:
    task = backend.wait(backend.submit(image_paths=photos, export_dir="old", export_format="depth_vis"))
    frame = Path(task["result"]["files"][0])
    link = backend.workspace / "link to a frame.jpg"
    link.symlink_to(frame)
    request = {"image_paths": [str(link)], "export_dir": "old", "auto_cleanup": True}
    answer = backend.ask("POST", "/inference", request)
    assert (answer.status, "would delete" in answer.json["detail"]) == (422, True)
    assert frame.exists()


def test_one_run_at_a_time_has_a_folder(backend: BackendProcess, photos: list[str], da3: Callable[..., Any]) -> None:
    """Commands, tasks and this process lock it alike."""
    shared = backend.workspace / "shared"
    request = {"image_paths": photos, "export_dir": str(shared), "export_format": "mini_npz"}
    with ExportFolder(shared, shared, ours=True).staging() as staging:
        (staging / "first.txt").write_text("first")
        own = ("--export-dir", shared, "--overwrite", "--model-dir", "untrained:da3-small", "--device", "cpu")
        refused = da3("images", backend.workspace / "photos", *own)
        assert (refused.exit_code, "another run is writing into" in refused.stderr) == (2, True), refused.stderr
        task = backend.wait(backend.submit(**request))
        assert (task["status"], "another run is writing into" in task["message"]) == ("failed", True)
    assert backend.wait(backend.submit(**request))["status"] == "completed"
    assert (shared / "first.txt").read_text() == "first"


def test_what_a_killed_backend_left_goes_with_the_next_one(
    start_backend: Callable[..., BackendProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    backend = start_backend()
    photos = [str(path) for path in sorted((backend.workspace / "photos").iterdir())]
    start_slow(backend, photos, export_dir="killed")
    backend.process.kill()
    backend.process.communicate()
    left = {path for path in tmp_path.iterdir() if path.name.startswith("da3-backend-")}
    assert len(left) == 1
    following = start_backend("--allow-root", str(backend.workspace))
    now = {path for path in tmp_path.iterdir() if path.name.startswith("da3-backend-")}
    assert (len(now), now & left) == (1, set())
    request = {"image_paths": photos, "export_dir": str(backend.workspace / "killed"), "export_format": "mini_npz"}
    assert following.wait(following.submit(**request))["status"] == "completed"
    assert sorted(os.listdir(backend.workspace / "killed")) == [MARKER, "exports"]
    following.stop()
    assert list(tmp_path.glob("da3-backend-*")) == []
