# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: what is drawn, what the address says, and that nothing is fetched from elsewhere."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np
import pytest
from gallery_server import HOSTILE, GalleryServer, gallery_server
from PIL import Image

from da3_core.export.video import write_video
from da3_core.formats.gltf import POINTS, Mesh, write_glb

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WAIT_MS = 20_000


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A window in which no error is logged, no script stops, and all comes from this machine."""
    context = browser.new_context(viewport={"width": 900, "height": 700}, color_scheme="dark")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.on("response", lambda response: troubles.append(response.url) if response.status >= 400 else None)
    page.on("request", lambda request: None if is_local(request.url) else troubles.append(request.url))
    yield page
    context.close()
    assert troubles == []


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:", "data:"))


def open_page(window: "Page", server: GalleryServer, **state: str) -> None:
    window.goto(f"{server.url}?{urlencode(state)}")


def picture(page: "Page") -> np.ndarray:
    """`(H, W, 3)` int: what the canvas shows, once the next image was drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    image = Image.open(io.BytesIO(page.locator("canvas").screenshot()))
    return np.asarray(image.convert("RGB")).astype(int)


def drawn(image: np.ndarray) -> np.ndarray:
    """`(H, W)`: what is not background."""
    return np.abs(image - image[2, 2]).max(axis=2) > 24


def texts(page: "Page", selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def test_from_the_list_into_a_scene_and_back(page: "Page", server: GalleryServer) -> None:
    open_page(page, server)
    page.locator("#groups a").first.wait_for()
    assert texts(page, "#groups a") == ["Scenes", HOSTILE, "many", "rooms"]
    page.fill("#search", "ROO")
    page.locator("#groups a").filter(has_text="many").wait_for(state="detached")
    assert texts(page, "#groups a") == ["rooms"]
    page.click("#groups a")
    page.locator("#scenes a").wait_for()
    assert page.input_value("#search") == ""
    (caption,) = texts(page, "#scenes a")
    assert caption.split("\n")[0] == "exact room"
    assert page.locator("#scenes img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 308
    page.click("#scenes a")
    page.locator("canvas").wait_for()
    assert page.url.endswith("?group=rooms&id=exact+room")
    assert page.inner_text("#scene-points") == caption.split("\n")[1]
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="hidden")
    page.wait_for_url("**/?group=rooms")  # the event comes after the dialog is gone
    page.go_back()
    page.locator("canvas").wait_for()
    page.click("#close")
    page.click("#home")
    page.locator("#groups a").first.wait_for()
    assert page.url.endswith("/?")


def test_the_room_is_drawn_and_moves(page: "Page", server: GalleryServer) -> None:
    open_page(page, server, group="rooms", id="exact room")
    page.locator("canvas").wait_for()
    first = picture(page)
    inside = drawn(first)
    assert 0.3 < inside.mean() < 0.95
    assert len(np.unique(first[inside] // 16, axis=0)) > 200  # the colours of a furnished room
    rows, columns = np.nonzero(inside)
    assert abs(rows.mean() / inside.shape[0] - 0.5) < 0.2
    assert abs(columns.mean() / inside.shape[1] - 0.5) < 0.2

    def changed_by(*keys: str) -> np.ndarray:
        before = picture(page)
        for key in keys:
            page.locator("canvas").press(key)
        return np.abs(picture(page) - before).max(axis=2) > 24

    box = page.locator("canvas").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1] + 30)
    page.mouse.up()
    assert np.abs(picture(page) - first).max() > 24
    page.mouse.wheel(0, 1200)
    assert drawn(picture(page)).sum() < 0.7 * inside.sum()  # farther away
    page.click("#reset")
    assert (picture(page) == first).all()

    assert changed_by("ArrowLeft").any()
    assert changed_by("Shift+ArrowUp", "-").any()
    page.locator("canvas").dblclick()
    assert (picture(page) == first).all()

    page.locator("#cameras").uncheck()
    lines = np.abs(picture(page) - first).max(axis=2) > 24
    assert 20 < lines.sum() < 0.05 * lines.size
    page.locator("#cameras").check()
    page.locator("#point-size").fill("-2")
    assert drawn(picture(page)).sum() < 0.8 * inside.sum()


def test_the_wheel_zooms_to_where_the_mouse_is(
    page: "Page", make_scene: Callable[[Path], Path], tmp_path: Path
) -> None:
    dot = Mesh("points", POINTS, np.ones((1, 3)), np.full((1, 3), (255, 0, 0), np.uint8))
    write_glb(make_scene(tmp_path / "scene") / "scene.glb", [dot], {})

    def centre_of_dot() -> np.ndarray:
        return np.argwhere(drawn(picture(page))).mean(axis=0)

    with gallery_server(tmp_path) as server:
        open_page(page, server, group="_root", id="scene")
        page.locator("canvas").wait_for()
    box = page.locator("canvas").bounding_box()
    assert box is not None
    np.testing.assert_allclose(centre_of_dot(), (box["height"] / 2, box["width"] / 2), atol=2)
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.locator("canvas").press(key)
    row, column = centre_of_dot()
    assert (row - box["height"] / 2, column - box["width"] / 2) == (
        pytest.approx(0.05 * box["height"], abs=2),
        pytest.approx(0.1 * box["height"], abs=2),
    )
    page.mouse.move(box["x"] + column, box["y"] + row)
    page.mouse.wheel(0, -500)
    np.testing.assert_allclose(centre_of_dot(), (row, column), atol=3)


def test_two_fingers_move_and_zoom(browser: "Browser", server: GalleryServer) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 700}, has_touch=True, is_mobile=True)
    page = context.new_page()
    open_page(page, server, group="rooms", id="exact room")
    page.locator("canvas").wait_for()
    before = drawn(picture(page))
    box = page.locator("canvas").bounding_box()
    assert box is not None
    fingers = context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "id": i}
            for i, (x, y) in enumerate(points)
        ]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (0.2, 0.5), (0.8, 0.5))
    for spread in (0.2, 0.1, 0.05, 0.03):
        touch("touchMove", (0.5 - spread, 0.4), (0.5 + spread, 0.4))
    touch("touchMove", (0.47, 0.2), (0.53, 0.2))
    touch("touchEnd")
    after = drawn(picture(page))
    context.close()
    assert after.sum() < 0.3 * before.sum()
    assert np.nonzero(after)[0].mean() < np.nonzero(before)[0].mean() - 10  # upwards, as the fingers went


def test_pages_of_cards_and_of_depth_images(page: "Page", server: GalleryServer) -> None:
    open_page(page, server, group="many", page="2")
    page.locator("#scenes a").first.wait_for()
    assert texts(page, "#scenes .title") == ["scene 16", "scene 17"]
    page.get_by_role("button", name="Previous").click()
    page.get_by_text("scene 00").wait_for()
    assert (page.locator("#scenes a").count(), page.inner_text("#pages span")) == (16, "Page 1 of 2")
    page.fill("#search", "17")
    assert texts(page, "#scenes .title") == ["scene 17"]

    open_page(page, server, group="rooms", id="exact room")
    page.click("#resources")
    images = page.locator("#depth-images img")
    sizes = "(all) => Promise.all(all.map((image) => image.decode().then(() => image.naturalWidth)))"
    assert images.evaluate_all(sizes) == [308] * 4
    page.locator("#depth-pages").get_by_role("button", name="Next").click()
    assert images.evaluate_all(sizes) == [308]
    assert images.get_attribute("alt") == "Depth image 0004.jpg"


def test_files_can_be_taken_along(page: "Page", server: GalleryServer, gallery: Path) -> None:
    open_page(page, server, group="rooms", id="exact room")
    with page.expect_download() as started:
        page.click("#download")
    assert started.value.suggested_filename == "exact room.glb"
    assert Path(started.value.path()).read_bytes() == (gallery / "rooms/exact room/scene.glb").read_bytes()
    names = [text.split(" (")[0] for text in texts(page, "#files a")]
    assert names == ["scene.glb", "exports/mini_npz/results.npz", "points.ply", "gs_video/0000_extend.mp4"]


def test_a_video_plays_from_where_one_wants(page: "Page", make_scene: Callable[[Path], Path], tmp_path: Path) -> None:
    pytest.importorskip("av", reason="makes the video")
    frames = (np.full((32, 32, 3), shade, np.uint8) for shade in range(0, 240, 4))
    write_video(make_scene(tmp_path / "scene") / "gs_video/0000_extend.mp4", frames, fps=10)
    with gallery_server(tmp_path) as server:
        open_page(page, server, group="_root", id="scene")
        page.click("#resources")
        shown = page.locator("video").evaluate(
            """(video) => new Promise((done) => {
                video.onseeked = () => done([video.duration, video.currentTime, video.videoWidth]);
                if (video.readyState) video.currentTime = 4;
                else video.onloadedmetadata = () => { video.currentTime = 4; };
            })"""
        )
    assert shown == [pytest.approx(6, abs=0.1), 4, 32]


def test_names_with_html_in_them_are_only_names(page: "Page", server: GalleryServer) -> None:
    open_page(page, server)
    page.get_by_text(HOSTILE).click()
    page.locator("#scenes a").click()
    page.locator("canvas").wait_for()
    assert page.inner_text("#scene-title") == f"{HOSTILE} & 100%41#?"
    assert page.locator("img[src=x]").count() == 0
    picture(page)
    red = page.locator("canvas").screenshot()
    assert (np.asarray(Image.open(io.BytesIO(red)).convert("RGB")) == (255, 0, 0)).all(axis=2).any()


def test_what_cannot_be_shown_is_said(page: "Page", make_scene: Callable[[Path], Path], tmp_path: Path) -> None:
    for name, content in (("a torn", None), ("b text", b"no model"), ("c empty", b"")):
        model = make_scene(tmp_path / "g" / name) / "scene.glb"
        model.write_bytes(model.read_bytes()[:-30] if content is None else content)
    with gallery_server(tmp_path) as server:
        for name, reason in (("a torn", "is cut off"), ("b text", "no GLB"), ("c empty", "no GLB")):
            open_page(page, server, group="g", id=name)
            page.locator("#model-message").filter(has_text=reason).wait_for()
        open_page(page, server, group="g", id="no such")
        page.get_by_text("There is no scene no such in this group.").wait_for()
        open_page(page, server, group="no such")
        page.get_by_text("There is no scene in this group.").wait_for()


def test_colours_distances_the_camera_path_and_a_second_scene(
    page: "Page", server: GalleryServer, check_page: Callable[..., None]
) -> None:
    open_page(page, server, group="rooms", id="exact room")
    page.locator("canvas").wait_for()
    first = picture(page)
    by_depth, by_confidence = (
        [page.locator("#color-by").select_option(what), picture(page)][1] for what in ("depth", "confidence")
    )
    middle = slice(first.shape[0] // 4, 3 * first.shape[0] // 4)
    for shown, other in ((by_depth, first), (by_confidence, by_depth)):
        assert (np.abs(shown - other).max(axis=2) > 24)[middle].mean() > 0.2
    page.locator("#color-by").select_option("image")
    assert (picture(page) == first).all()

    page.locator("#measure").click()
    canvas = page.locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.press("Enter")  # the middle, where the room was never seen
    page.get_by_text("There is no point: click one.").wait_for()
    canvas.click(position={"x": box["width"] * 0.4, "y": box["height"] * 0.85})
    page.get_by_text("One point: click another.").wait_for()
    canvas.click(position={"x": box["width"] * 0.6, "y": box["height"] * 0.85})
    page.get_by_text("Distance").wait_for()
    said = page.locator("#measured").inner_text()
    assert said.startswith("Distance ")
    assert 0.05 < float(said.split()[1]) < 10
    assert said.endswith("units of the model")
    page.locator("#measure").click()
    assert (picture(page) == first).all()  # the marks are gone

    page.locator("#play").click()
    page.wait_for_timeout(700)
    assert (np.abs(picture(page) - first).max(axis=2) > 24).mean() > 0.2
    page.get_by_role("button", name="Stop").click()
    page.locator("#reset").click()
    assert (picture(page) == first).all()
    check_page(page, "gallery_scene")

    open_page(page, server, group="many", id="scene 03")
    page.locator("#compare").select_option("scene 05")
    page.locator("canvas").nth(1).wait_for()
    assert "with=scene+05" in page.url
    views = [page.locator("canvas").nth(number) for number in (0, 1)]
    views[0].press("ArrowLeft")
    one, two = (np.asarray(Image.open(io.BytesIO(view.screenshot())).convert("RGB")) for view in views)
    assert (np.abs(one.astype(int) - two).max(axis=2) > 24).mean() < 0.02  # equal scenes that turn together
    check_page(page, "gallery_compare")
    page.locator("#compare").select_option("nothing")
    page.locator("canvas").nth(1).wait_for(state="detached")
    page.click("#close")
    check_page(page, "gallery_group")
    page.click("#home")
    page.locator("#groups a").first.wait_for()
    check_page(page, "gallery_groups")
