# SPDX-License-Identifier: Apache-2.0
"""`da3 gradio` as a process, used over HTTP as a page would use it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from app_process import ServedApp

from da3_core.web.gallery.scenes import Gallery

gradio_client = pytest.importorskip("gradio_client", reason="the web app needs `pip install gradio`")
httpx = pytest.importorskip("httpx")
trimesh = pytest.importorskip("trimesh")


CHOICES = ("low_res", False, "smooth", "low", "saddle_balanced", 0, 0, False)
CLOUD = (True, False, False, 10, 1000)  # what follows, model and camera matrix, is left as it is


class Page:
    """A visitor: the endpoints of the app, in a session of its own.

    Events that carry where was clicked are sent as the page sends them, because the client cannot.
    """

    def __init__(self, url: str) -> None:
        self.client = gradio_client.Client(url, verbose=False, httpx_kwargs={"timeout": 60})
        self.url = url

    def __call__(self, name: str, *values: Any) -> Any:
        return self.client.predict(*values, api_name=f"/{name}")

    def upload(self, *files: Path, video: Path | None = None, fps: float = 10) -> Any:
        given = [gradio_client.handle_file(file) for file in files] or None
        clip = None if video is None else gradio_client.handle_file(video)
        return self("take_uploads", clip, given, fps)

    def downloads(self, *cloud: Any) -> list[str | None]:
        """The files behind the buttons."""
        return [button["value"] for button in self("prepare_downloads", 0, *cloud)]

    def click(self, name: str, event: dict[str, Any], *values: Any) -> list[Any]:
        """What the page is told to show; raises RuntimeError with the message of an error."""
        (index,) = [number for number, one in enumerate(self.client.config["dependencies"]) if one["api_name"] == name]
        session = self.client.session_hash
        body = {"data": values, "event_data": event, "fn_index": index, "session_hash": session}
        with httpx.Client(base_url=f"{self.url}gradio_api/", timeout=60, trust_env=False) as http:
            http.post("queue/join", json=body).raise_for_status()
            with http.stream("GET", "queue/data", params={"session_hash": session}) as stream:
                for line in stream.iter_lines():
                    message = json.loads(line.removeprefix("data:")) if line else {}
                    if message.get("msg") == "process_completed":
                        if not message["success"]:
                            raise RuntimeError(message["output"]["error"])
                        return message["output"]["data"]
        raise AssertionError("the event never ended")


@pytest.fixture
def page(served: ServedApp) -> Iterator[Page]:
    visitor = Page(served.url)
    yield visitor
    visitor("clear")


def points(glb: str) -> int:
    return sum(len(mesh.vertices) for name, mesh in trimesh.load(glb).geometry.items() if name == "points")


def test_pictures_become_a_cloud_that_can_be_filtered_taken_and_saved(
    page: Page, pictures: list[Path], served: ServedApp
) -> None:
    preview, status, *_ = page.upload(*pictures)
    assert status == "3 images"
    assert [one["caption"] for one in preview] == ["0.png", "6.png", "12.png"]

    glb, summary, view, picture, depth, hint, video, _ = page("reconstruct", *CHOICES, *CLOUD)
    assert summary.startswith("3 views · 112 × 84 pixels · depth in the model's unit · untrained:da3-small · ")
    assert [label for label, _ in view["choices"]] == ["1: 0.png", "2: 6.png", "3: 12.png"]
    assert video is None
    assert "two points" in hint
    assert cv2.imread(picture).shape == cv2.imread(depth).shape == (84, 112, 3)
    scene = trimesh.load(glb)
    assert sum(name.startswith("camera") for name in scene.geometry) == 3
    assert points(glb) == pytest.approx(0.9 * 3 * 84 * 112, rel=0.01)

    fewer = page("redraw", 0, False, False, False, 60, 1000)
    assert points(fewer) == pytest.approx(0.4 * 3 * 84 * 112, rel=0.01)
    assert len(trimesh.load(fewer).geometry) == 1

    glb, npz, ply, colmap, k, gaussians = page.downloads(False, False, False, 60, 1000)
    assert gaussians is None
    assert points(glb) == len(trimesh.load(ply).vertices) == points(fewer)
    with np.load(npz, allow_pickle=False) as arrays:
        assert arrays["depth"].shape == (3, 84, 112)
    assert "sparse/0/cameras.bin" in zipfile.ZipFile(colmap).namelist()
    assert np.loadtxt(k).shape == (9, 3)

    page("sample_anew", None, None, 30)  # which concerns videos alone
    assert page("save", "../my rooms", "one") == "Saved as one in the group my rooms."
    (saved,) = Gallery(served.gallery).scenes("my rooms")
    assert points(str(served.gallery / saved.model)) == points(fewer)
    assert len(list((served.gallery / "my rooms/one/depth_vis").iterdir())) == 3
    with pytest.raises(gradio_client.exceptions.AppError, match="choose another name"):
        page("save", "my rooms", "one")


def test_two_clicks_measure(page: Page, pictures: list[Path]) -> None:
    page.upload(pictures[0])
    page("reconstruct", *CHOICES, *CLOUD)
    _, npz, *_ = page.downloads(*CLOUD)
    with np.load(npz, allow_pickle=False) as arrays:
        depth, intrinsics = arrays["depth"][0].astype(float), arrays["intrinsics"][0].astype(float)
    pixels = [(20, 30), (90, 60)]
    first, second = (depth[v, u] * np.linalg.solve(intrinsics, [u + 0.5, v + 0.5, 1]) for u, v in pixels)

    _, _, text, _ = page.click("pick_point", {"index": pixels[0], "value": None}, None, 0, None)
    assert text == f"point 1: depth {first[2]:.2f} units"
    _, _, text, _ = page.click("pick_point", {"index": pixels[1], "value": None}, None, 0, None)
    assert text.endswith(f"distance {np.linalg.norm(second - first):.2f} units")
    _, _, text, _ = page.click("pick_point", {"index": pixels[1], "value": None}, None, 0, None)
    assert text == f"point 1: depth {second[2]:.2f} units"
    with pytest.raises(RuntimeError, match="outside the image of 112 x 84 pixels"):
        page.click("pick_point", {"index": [112, 3], "value": None}, None, 0, None)


def test_views_go_round(page: Page, pictures: list[Path]) -> None:
    page.upload(*pictures)
    page("reconstruct", *CHOICES, *CLOUD)
    chosen, shown = [], []
    for step in ("next_view", "next_view", "next_view", "previous_view"):
        view, picture, *_ = page(step, chosen[-1] if chosen else 0)
        chosen.append(view["value"] if isinstance(view, dict) else view)
        shown.append(cv2.imread(picture))
    assert chosen == [1, 2, 0, 2]
    np.testing.assert_array_equal(shown[1], shown[3])
    assert (shown[0] != shown[1]).any()


def test_a_video_is_sampled_and_sampled_anew(page: Page, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    preview, status, *_ = page.upload(video=clip, fps=2)
    assert status == "4 images"
    assert cv2.imread(preview[0]["image"]).mean() < 4  # the first frame is black
    assert page("sample_anew", gradio_client.handle_file(clip), None, 5)[1] == "10 images"


def test_errors_are_sentences_and_the_app_lives_on(page: Page, pictures: list[Path], tmp_path: Path) -> None:
    failure = gradio_client.exceptions.AppError
    with pytest.raises(failure, match="upload some, or a video"):
        page("reconstruct", *CHOICES, *CLOUD)
    (tmp_path / "<img src=x>.png").write_bytes(b"no image")
    with pytest.raises(failure, match="is no image that can be read"):
        page.upload(tmp_path / "<img src=x>.png")
    page.upload(pictures[0])
    with pytest.raises(failure, match="press Reconstruct first"):
        page("save", "rooms", "two")
    with pytest.raises(failure, match="needs Gaussians: use a giant"):
        page("reconstruct", "low_res", True, *CHOICES[2:], *CLOUD)
    assert page("reconstruct", *CHOICES, *CLOUD)[1].startswith("1 view ·")
    with pytest.raises(failure, match="there is no view"):
        page("prepare_downloads", None, *CLOUD)


def test_an_example_comes_with_its_kept_result(page: Page, served: ServedApp) -> None:
    kept = served.workspace / "input_images/example_a room"
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    output = page.click("load_example", {"index": 0, "value": None}, None, *CLOUD)
    assert output[4] == "2 images of a room"
    assert output[6].startswith("2 views ·")
    assert page("save", "examples", "a room") == "Saved as a room in the group examples."
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before
    with pytest.raises(RuntimeError, match="there is no example"):
        page.click("load_example", {"index": 7, "value": None}, None, *CLOUD)


def test_names_that_only_point_here_get_nothing(served: ServedApp) -> None:
    with httpx.Client(timeout=60, trust_env=False) as http:
        assert http.get(served.url).status_code == 200
        assert http.get(served.url, headers={"Host": "evil.example"}).status_code == 400
