# SPDX-License-Identifier: Apache-2.0
"""Nothing is read or written outside the allowed folders, and pages of elsewhere get nothing."""

from pathlib import Path

import pytest
from backend_process import BackendProcess

OUTSIDE = {
    "absolute": "/etc/hostname.png",
    "parent": "../secret/1.png",
    "parent from below": "photos/../../secret/1.png",
    "sibling with the same beginning": "../work-private/1.png",
    "link to a file": "link.png",
    "link to a folder": "linked/1.png",
    "link out of a link": "again/1.png",
    "control characters": "a\nb.png",
    "empty": "",
}


@pytest.fixture
def secret(backend: BackendProcess) -> Path:
    """A folder with an image beside the workspace, one whose name begins as the workspace's, and links to them."""
    folder = backend.workspace.parent / "secret"
    for neighbour in (folder, backend.workspace.parent / "work-private"):
        neighbour.mkdir(exist_ok=True)
        (neighbour / "1.png").write_bytes((backend.workspace / "photos/1.png").read_bytes())
    links = {"link.png": folder / "1.png", "linked": folder, "again": backend.workspace / "linked"}
    for name, target in links.items():
        (backend.workspace / name).unlink(missing_ok=True)
        (backend.workspace / name).symlink_to(target)
    return folder


@pytest.mark.parametrize("case", OUTSIDE)
def test_files_outside_are_not_read_nor_told_of(backend: BackendProcess, secret: Path, case: str) -> None:
    answer = backend.ask("POST", "/inference", {"image_paths": [OUTSIDE[case]]})
    assert answer.status == 403
    assert "no such file" not in answer.json["detail"]


@pytest.mark.parametrize("case", [case for case in OUTSIDE if case != "link to a file"])
def test_nothing_is_written_outside(backend: BackendProcess, secret: Path, photos: list[str], case: str) -> None:
    folder = OUTSIDE[case].removesuffix("/1.png") and OUTSIDE[case].replace("1.png", "new")
    before = {path: path.stat().st_mtime_ns for path in backend.workspace.parent.rglob("*") if path != backend.log}
    answer = backend.ask("POST", "/inference", {"image_paths": photos, "export_dir": folder, "auto_cleanup": True})
    assert answer.status == 403
    after = {path: path.stat().st_mtime_ns for path in backend.workspace.parent.rglob("*") if path != backend.log}
    assert after == before


def test_links_within_the_export_folder_lead_nowhere(backend: BackendProcess, secret: Path, photos: list[str]) -> None:
    (backend.workspace / "trap").mkdir()
    (backend.workspace / "trap/exports").symlink_to(secret)
    task = backend.wait(backend.submit(image_paths=photos, export_dir="trap", export_format="mini_npz"))
    assert (task["status"], "leads out" in task["message"]) == ("failed", True)
    assert [path.name for path in secret.iterdir()] == ["1.png"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8008", 200),
        ("127.0.0.1", 200),
        ("[::1]:8008", 200),
        ("depth.example:8008", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
    ],
)
def test_only_names_of_this_machine_are_answered(backend: BackendProcess, host: str, status: int) -> None:
    assert backend.ask("GET", "/status", headers={"Host": host}).status == status


def test_pages_of_elsewhere_change_nothing(backend: BackendProcess) -> None:
    own = {"Origin": backend.url, "Host": backend.url.removeprefix("http://")}
    assert backend.ask("POST", "/cleanup", headers=own).status == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[", "http://[::1"):
        assert backend.ask("POST", "/cleanup", headers={**own, "Origin": origin}).status == 403
