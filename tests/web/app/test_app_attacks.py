# SPDX-License-Identifier: Apache-2.0
"""What strangers try against `da3 gradio` over HTTP: other people's files, pages of their own, the whole disk."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from app_process import ServedApp, served_app

gradio_client = pytest.importorskip("gradio_client", reason="the web app needs `pip install gradio`")
httpx = pytest.importorskip("httpx")

CHOICES = ("low_res", False, "smooth", "low", "saddle_balanced", 0, 0, False)
CLOUD = (True, False, False, 10, 1000)
FURTHER = ("untrained:da3-small", "")  # model and camera matrix
NOT_UPLOADED = "was not uploaded here"


class Stranger:
    """A program that speaks the app's protocol without Gradio's client, so that it may lie."""

    def __init__(self, served: ServedApp, session: str) -> None:
        self.http = httpx.Client(base_url=f"{served.url}gradio_api/", timeout=60, trust_env=False)
        self.session = session

    def upload(self, name: str, content: bytes, **headers: str) -> Any:
        return self.http.post("upload", files={"files": (name, content)}, headers=headers)

    def event(self, name: str, *data: Any) -> dict[str, Any]:
        """How an event ended, by way of the queue."""
        config = self.http.get("../config").json()
        (index,) = [number for number, one in enumerate(config["dependencies"]) if one["api_name"] == name]
        body = {"data": data, "fn_index": index, "session_hash": self.session}
        self.http.post("queue/join", json=body).raise_for_status()
        with self.http.stream("GET", "queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line else {}
                if message.get("msg") == "process_completed":
                    return dict(message)
        raise AssertionError("the event never ended")

    def direct(self, name: str, *data: Any) -> Any:
        """The same without the queue."""
        return self.http.post(f"run/{name}", json={"data": data, "session_hash": self.session})


@pytest.fixture
def strangers(served: ServedApp) -> Iterator[list[Stranger]]:
    both = [Stranger(served, "first"), Stranger(served, "second")]
    yield both
    for one in both:
        one.event("clear", None)
        one.http.close()


def file_data(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_only_uploads_become_pictures(strangers: list[Stranger], served: ServedApp, pictures: list[Path]) -> None:
    one, _ = strangers
    own = one.upload("own.png", pictures[0].read_bytes()).json()[0]
    foreign = served.workspace / "examples/a room/0.png"
    attempts = [
        str(foreign),
        str(pictures[1]),
        "/etc/hostname",
        "../" * 20 + str(pictures[1]),
        f"{Path(own).parent}/../../uploads/../../../{pictures[1]}",
        "http://127.0.0.1:9/1.png",
        str(Path(own).parent),
        own.replace(Path(own).parent.name, "0" * 32),
    ]
    for path in attempts:
        files: Any
        for files in ([file_data(path)], [file_data(own), file_data(path)], [{"path": path}]):
            ended = one.event("take_uploads", None, None, files, 10)
            assert (ended["success"], NOT_UPLOADED in str(ended["output"])) == (False, True), ended
        ended = one.event("take_uploads", None, {"video": file_data(path)}, None, 10)
        assert not ended["success"]
        assert NOT_UPLOADED in str(ended["output"])
        assert NOT_UPLOADED in one.direct("take_uploads", None, None, [file_data(path)], 10).text
        assert not one.event("redraw", None, 0, file_data(path), False, False, 10, 1000)["success"]
    ended = one.event("reconstruct", None, *CHOICES, *CLOUD, *FURTHER)
    assert "upload some, or a video" in str(ended["output"])  # nothing was taken


def test_deep_requests_are_answered_in_a_sentence(strangers: list[Stranger]) -> None:
    one, _ = strangers
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    for files in (deep, {"a": deep}, [1], 7):
        ended = one.event("take_uploads", None, None, files, 10)
        assert not ended["success"]
        assert "comes from this page" in str(ended["output"]) or "no images" in str(ended["output"])
    assert one.http.post("queue/join", content=b"[" * 1_000_000).status_code in (400, 422)


def test_what_was_uploaded_is_all_that_the_archive_holds(strangers: list[Stranger], pictures: list[Path]) -> None:
    one, _ = strangers
    own = one.upload("own.png", pictures[0].read_bytes()).json()[0]
    assert one.event("take_uploads", None, None, [file_data(own)], 10)["success"]
    assert one.event("reconstruct", None, *CHOICES, *CLOUD, *FURTHER)["success"]
    buttons = one.event("prepare_downloads", None, 0, *CLOUD)["output"]["data"]
    url = buttons[3]["value"]["url"]
    answer = one.http.get(url)
    assert answer.headers["content-disposition"].startswith("attachment")
    (Path(pictures[0].parent) / "colmap.zip").write_bytes(answer.content)
    names = zipfile.ZipFile(pictures[0].parent / "colmap.zip").namelist()
    assert [name for name in names if name.startswith("images/")] == ["images/own.png"]


def test_visitors_see_nothing_of_each_other(strangers: list[Stranger], pictures: list[Path]) -> None:
    one, two = strangers
    paths = [each.upload("same.png", pictures[0].read_bytes()).json()[0] for each in strangers]
    assert paths[0] != paths[1]  # not even that somebody has the same file
    assert one.event("take_uploads", None, None, [file_data(paths[0])], 10)["success"]
    assert one.event("reconstruct", None, *CHOICES, *CLOUD, *FURTHER)["success"]
    for name, values in (("prepare_downloads", (None, *CLOUD)), ("save", ("group", "scene")), ("show_view", (None,))):
        ended = two.event(name, None, *values)
        assert "scene.glb" not in str(ended["output"])
        assert name == "prepare_downloads" or "upload some" in str(ended["output"])


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "script.js", "page.xhtml", "picture.png", "clip.mp4"])
def test_uploads_never_show_as_pages(strangers: list[Stranger], name: str) -> None:
    one, _ = strangers
    path = one.upload(name, b"<script>alert(1)</script>").json()[0]
    for way in ("file=", "file/"):
        answer = one.http.get(way + quote(path))
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["content-type"] not in ("text/html", "image/svg+xml")


def test_no_file_elsewhere_is_given_out(strangers: list[Stranger], served: ServedApp, tmp_path: Path) -> None:
    one, _ = strangers
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    link = "../" * 20 + str(secret)
    inside = served.workspace / "examples/a room/0.png"
    for path in (str(secret), f"{served.workspace}/{link}", "/etc/passwd", "pyproject.toml", str(inside), "\0", "/"):
        assert one.http.get(f"file={quote(path)}").status_code in (403, 404)
    own = one.upload("own.png", b"own").json()[0]
    Path(own).with_name("link.png").symlink_to(secret)
    assert one.http.get(f"file={quote(str(Path(own).with_name('link.png')))}").status_code == 404
    for closed in ("proxy=http://127.0.0.1:9/", "stream/x/0/0/playlist-file", "process_recording"):
        assert one.http.get(closed).status_code == 404
        assert one.http.post(closed).status_code == 404


def test_pages_of_elsewhere_change_nothing(strangers: list[Stranger], served: ServedApp) -> None:
    one, _ = strangers
    for origin in ("http://evil.example", "null", "http://["):
        assert one.upload("a.png", b"a", Origin=origin).status_code == 403
        assert one.http.post("queue/join", json={}, headers={"Origin": origin}).status_code == 403
    assert one.upload("a.png", b"a", Origin=served.url.rstrip("/")).status_code == 200


def test_uploads_have_limits(pictures: list[Path], tmp_path: Path) -> None:
    limits = ("--max-upload-mb", "3", "--max-upload-mb-per-caller", "2", "--max-upload-mb-per-file", "1")
    with served_app(tmp_path, *limits) as served:
        one = Stranger(served, "one")
        megabyte = bytes(1 << 20)
        assert one.upload("a.png", megabyte + b"x").status_code == 413
        assert one.upload("a.png", megabyte).status_code == 200
        assert one.upload("b.png", megabyte).status_code == 200
        full = one.upload("c.png", b"x")
        assert (full.status_code, "of one caller may take" in full.text) == (507, True)
        assert one.upload("d.png", bytes(5 << 20)).status_code == 413
        assert one.http.post("queue/join", content=bytes(17 << 20)).status_code == 413
        one.http.close()
