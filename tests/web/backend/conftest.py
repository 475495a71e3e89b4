# SPDX-License-Identifier: Apache-2.0
"""Backends that tests share, each with a workspace of its own, and commands that use them."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backend_process import BackendProcess
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="session")
def start_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., BackendProcess]]:
    """`start_backend(*arguments)` in a fresh workspace with photos and a gallery in it."""
    started: list[BackendProcess] = []

    def start(*arguments: str) -> BackendProcess:
        workspace = tmp_path_factory.mktemp("backend") / "work"
        (workspace / "workspace/gallery").mkdir(parents=True)
        (workspace / "photos").mkdir()
        random = np.random.default_rng(0)
        for name in ("1.png", "2.jpg", "10.webp"):
            pixels = random.integers(0, 255, (60, 80, 3), np.uint8)
            Image.fromarray(pixels).resize((160, 120)).save(workspace / "photos" / name)
        started.append(BackendProcess(workspace, *arguments))
        return started[-1]

    yield start
    for backend in started:
        if backend.process.poll() is None:
            backend.stop()


@pytest.fixture(scope="session")
def backend(start_backend: Callable[..., BackendProcess]) -> BackendProcess:
    """On the loopback address, for most tests."""
    return start_backend("--max-upload-mb", "1", "--max-upload-mb-per-caller", "1", "--allow-host", "depth.example")


@pytest.fixture
def photos(backend: BackendProcess) -> list[str]:
    """Three image files of `backend`, in natural order."""
    return [str(backend.workspace / "photos" / name) for name in ("1.png", "2.jpg", "10.webp")]


@pytest.fixture
def da3(backend: BackendProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`da3(*arguments)` runs a command in the workspace of `backend`: exit code, stdout and stderr."""
    from da3_core.cli import app

    logger = logging.getLogger("da3_core")  # which the command sets up for its own process
    level, handlers = logger.level, list(logger.handlers)
    monkeypatch.chdir(backend.workspace)
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    logger.setLevel(level)
    logger.handlers[:] = handlers
