# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: what a visitor sees, clicks and takes home."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from app_process import ServedApp
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def page(browser: "Browser", served: ServedApp) -> "Iterator[Page]":
    """The app; at the end nothing must have been asked of anybody else, and no script must have failed."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(60_000)
    asked: list[str] = []
    failures: list[Any] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failures.append(error))
    page.goto(served.url)
    yield page
    page.close()
    local = (served.url, f"blob:{served.url}", "data:")
    assert [url for url in asked if not url.startswith(local)] == []
    assert failures == []


def drawn_share(page: "Page") -> float:
    """How much of the 3-D view is not background."""
    canvas = page.frame_locator("#da3-viewer").locator("canvas")
    picture = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("L"))
    return float((picture < 230).mean())


def test_a_visitor_reconstructs_filters_measures_and_takes_home(
    page: "Page", pictures: list[Path], served: ServedApp, check_page: Callable[..., None], tmp_path: Path
) -> None:
    hostile = tmp_path / "<img src=x onerror=document.title=1>.png"
    hostile.write_bytes(pictures[0].read_bytes())
    run = page.get_by_role("button", name="Reconstruct")
    run.click()
    page.get_by_text("upload some, or a video").wait_for()

    page.locator("input[type=file]").nth(1).set_input_files([hostile, *pictures[1:]])
    page.get_by_text("3 images", exact=True).wait_for()
    run.click()
    page.get_by_text("3 views · 112 × 84 pixels").wait_for()
    viewer = page.frame_locator("#da3-viewer")
    viewer.locator("canvas").wait_for()
    before = 0.0
    for _ in range(60):
        if (before := drawn_share(page)) > 0.01:
            break
        page.wait_for_timeout(500)
    assert before > 0.01

    with page.expect_response(lambda response: "/file=" in response.url and response.url.endswith(".glb")):
        percentage = page.get_by_label("number input for Filter Percentage")
        percentage.fill("95")
        percentage.press("Tab")
    with page.expect_download() as download:
        page.get_by_role("button", name="PLY").click()
    header = Path(download.value.path()).read_bytes()[:200]
    assert header.startswith(b"ply\nformat binary_little_endian")

    page.reload()  # which the visit survives
    page.get_by_text("3 views · 112 × 84 pixels").wait_for()
    viewer.locator("canvas").wait_for()
    page.get_by_role("tab", name="Depth", exact=True).click()
    page.locator(".image-frame img").last.wait_for()
    check_page(page, "app_depth")
    page.get_by_role("tab", name="Point Cloud & Cameras").click()
    viewer.locator("canvas").wait_for()
    check_page(page, "app")

    page.get_by_role("tab", name="Depth", exact=True).click()
    for image, (x, text) in enumerate([(0.3, "point 1: depth"), (0.7, "distance")]):
        shown = page.locator(".image-frame img").nth(image)
        for tenths in range(600):
            if tenths % 150 == 0:  # a click is lost while both images are drawn anew after the one before
                box = shown.bounding_box()
                shown.click(position={"x": box["width"] * x, "y": box["height"] / 2})
            page.wait_for_timeout(100)
            if page.get_by_text(text).is_visible():
                break
        page.get_by_text(text).wait_for()

    page.get_by_label("Scene name").fill("../from the page")
    page.get_by_role("button", name="Save to gallery").click()
    page.get_by_text("Saved as from the page in the group app.").wait_for()
    assert (served.gallery / "app/from the page/scene.glb").is_file()
    assert page.title() == "Depth Anything 3"


def test_two_visitors_see_nothing_of_each_other(browser: "Browser", served: ServedApp, pictures: list[Path]) -> None:
    visitors = [browser.new_context().new_page() for _ in range(2)]
    for page in visitors:
        page.set_default_timeout(60_000)
        page.goto(served.url)
    one, two = visitors
    one.locator("input[type=file]").nth(1).set_input_files(pictures)
    one.get_by_text("3 images", exact=True).wait_for()
    two.get_by_role("button", name="Reconstruct").click()
    two.get_by_text("upload some, or a video").wait_for()
    two.locator("input[type=file]").nth(1).set_input_files(pictures[:1])
    two.get_by_text("1 image", exact=True).wait_for()
    for page, text in ((one, "3 views ·"), (two, "1 view ·")):
        page.get_by_role("button", name="Reconstruct").click()
        page.get_by_text(text).wait_for()
    assert one.get_by_text("1 image", exact=True).count() == two.get_by_text("3 images", exact=True).count() == 0
    for page in visitors:
        page.context.close()


def test_an_example_shows_its_kept_result(page: "Page") -> None:
    page.get_by_role("button", name="Thumbnail").last.click()
    page.get_by_text("2 images of a room").wait_for()
    page.get_by_text("2 views · 112 × 84 pixels").wait_for()
    page.get_by_role("tab", name="3DGS Rendered Novel Views").click()
    page.get_by_text("There is no camera path").wait_for()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_text("2 images of a room").wait_for(state="detached")
