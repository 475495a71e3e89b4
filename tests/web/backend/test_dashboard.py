# SPDX-License-Identifier: Apache-2.0
"""The dashboard in a browser: it follows the tasks by itself, and ends them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backend_process import SLOW, BackendProcess
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_the_dashboard_follows_tasks_and_ends_them(
    backend: BackendProcess, photos: list[str], browser: "Browser", check_page: Callable[..., None]
) -> None:
    done = backend.submit(image_paths=photos[:2], export_dir="shown", export_format="mini_npz")
    backend.wait(done)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(30_000)
    asked, failures = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: failures.append(message.text))
    page.goto(f"{backend.url}/dashboard")
    card = page.locator(".task").filter(has_text=done)
    assert "completed · 2 images" in card.inner_text()
    assert card.locator("img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 160
    with page.expect_download() as download:
        card.get_by_role("link", name="exports/mini_npz/results.npz").click()
    written = backend.workspace / "shown/exports/mini_npz/results.npz"
    assert Path(download.value.path()).read_bytes() == written.read_bytes()

    slow = backend.submit(image_paths=photos * 20, export_dir="cancelled", **SLOW)
    card = page.locator(".task").filter(has_text=slow)
    card.wait_for()  # without a reload
    assert card.get_by_role("progressbar").is_visible()
    check_page(page, "backend_dashboard")
    card.get_by_role("button", name="Cancel").click()
    page.locator(".task", has_text="cancelled after").filter(has_text=slow).wait_for()
    assert backend.wait(slow)["status"] == "cancelled"
    for path in ("", "docs"):
        page.goto(f"{backend.url}/{path}")
        check_page(page, f"backend_{path or 'start'}")
    page.close()
    assert failures == []
    assert [url for url in asked if not url.startswith(backend.url)] == []


def test_a_thumbnail_is_small_and_gone_with_its_image(backend: BackendProcess) -> None:
    photo = backend.workspace / "photos/large.png"
    Image.new("RGB", (900, 300), (200, 30, 30)).save(photo)
    task = backend.submit(image_paths=[str(photo)])
    answer = backend.ask("GET", f"/task/{task}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.body)).size == (320, 107)
    backend.wait(task)
    photo.unlink()
    assert backend.ask("GET", f"/task/{task}/thumbnail").status == 404
    assert backend.ask("GET", "/task/none/thumbnail").status == 404
