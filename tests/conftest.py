# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a small walk through the synthetic room, and a browser where one is installed."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from da3_core.synthetic import Walk, room_walk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def walk() -> Walk:
    """24 frames of 240 x 320 with exact depth and cameras; treat it as read-only."""
    return room_walk(frames=24, size=(240, 320))


@pytest.fixture(scope="module")  # no longer: while it lives, no other event loop can run in this process
def browser() -> "Iterator[Browser]":
    """A headless Chromium that draws WebGL in software."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need `pip install playwright`")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("browser tests need an installed Chromium")
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with (
        sync_api.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=options) as process,
    ):
        yield process


WINDOWS = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="session")
def check_page() -> "Callable[..., None]":
    """`check_page(page, name)`: at the size of a desktop and of a phone, axe finds nothing and nothing is cut off.

    With DA3_SCREENSHOTS an image of each is kept in that folder, to be looked at.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-playwright-python")

    def check(page: "Page", name: str) -> None:
        before = page.viewport_size
        for window, (width, height) in WINDOWS.items():
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            if kept := os.environ.get("DA3_SCREENSHOTS"):
                folder = Path(kept)
                folder.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=folder / f"{name}_{window}.png")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, window)
            found = axe.Axe().run(page).response["violations"]
            told = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
            assert told == [], (name, window)
        page.set_viewport_size(before)

    return check
