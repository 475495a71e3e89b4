# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a small walk through the synthetic room, and a browser where one is installed."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from da3_core.synthetic import Walk, room_walk

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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
