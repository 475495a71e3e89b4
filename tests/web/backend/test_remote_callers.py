# SPDX-License-Identifier: Apache-2.0
"""A backend that serves the network: its token, its full queue, its end; and backends that cannot start."""

import base64
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backend_process import ROOT, SLOW, BackendProcess
from typer.testing import Result

from da3_core.web.server import listen

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def open_backend(start_backend: Callable[..., BackendProcess]) -> BackendProcess:
    """As the usage guide starts it, with a short queue."""
    return start_backend("--host", "0.0.0.0", "--queue-size", "1")


@pytest.fixture(scope="module")
def token(open_backend: BackendProcess) -> str:
    """What the backend printed."""
    return open_backend.log.read_text().partition("callers need this token: ")[2].split()[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_network_needs_the_token_that_was_printed(open_backend: BackendProcess, token: str) -> None:
    basic = base64.b64encode(f"me:{token}".encode()).decode()
    for headers, status in (
        ({}, 401),
        (bearer(token), 200),
        ({"Authorization": f"Basic {basic}"}, 200),
        (bearer(token[:-1]), 401),
        (bearer(""), 401),
        ({"Authorization": "Basic ///"}, 401),
        ({"Authorization": "Basic /"}, 401),
    ):
        for path in ("/status", "/tasks", "/", "/docs", "/gallery/"):
            assert open_backend.ask("GET", path, headers=headers).status == status, (headers, path)
    assert open_backend.ask("POST", "/inference", {}).status == 401
    assert open_backend.ask("POST", "/upload", raw=b"").status == 401
    assert open_backend.ask("GET", "/healthz").json == {"status": "ok"}
    assert open_backend.ask("GET", "/status", headers={**bearer(token), "Host": "evil.example"}).status == 400


def test_commands_of_the_same_user_find_the_token_and_others_are_told_of_it(
    open_backend: BackendProcess, token: str, da3: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(open_backend.workspace)
    command = ("auto", "photos/2.jpg", "--use-backend", "--backend-url", f"http://localhost:{open_backend.port}")
    command = (*command, "--export-dir", "./output", "--process-res", "56", "--export-format", "mini_npz", "--yes")
    monkeypatch.setenv("XDG_CACHE_HOME", str(open_backend.cache))
    (file,) = (open_backend.cache / "da3").iterdir()
    assert (file.stat().st_mode & 0o777, file.read_text()) == (0o600, token)
    assert da3(*command).exit_code == 0

    monkeypatch.setenv("XDG_CACHE_HOME", str(open_backend.workspace))
    refused = da3(*command)
    assert (refused.exit_code, "--backend-token" in refused.stderr) == (2, True)
    assert da3(*command, "--backend-token", token).exit_code == 0
    monkeypatch.setenv("DA3_BACKEND_TOKEN", token)
    assert da3(*command).exit_code == 0


@contextmanager
def when_logged(text: str, act: Callable[[], object]) -> Iterator[None]:
    """Within the block, `act` is called when a client logs the text."""
    handler = logging.Handler()
    handler.emit = lambda record: act() if text in record.getMessage() else None  # type: ignore[method-assign]
    logger = logging.getLogger("da3_core.web.backend.client")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_a_full_queue_says_when_to_come_back_and_ctrl_c_ends_everything_well(
    open_backend: BackendProcess, token: str, da3: Command
) -> None:
    headers = bearer(token)
    images = [str(open_backend.workspace / "photos/1.png")] * 60
    running = open_backend.submit(headers, image_paths=images, export_dir="out", export_format="mini_npz", **SLOW)
    open_backend.wait(running, headers, until=("running",))
    waiting = open_backend.submit(headers, image_paths=images[:1])
    full = open_backend.ask("POST", "/inference", {"image_paths": images[:1]}, headers=headers)
    assert full.status == 429
    assert int(full.headers["retry-after"]) >= 1
    command = ("--use-backend", "--backend-url", open_backend.url, "--backend-token", token, "--no-wait")
    with when_logged("the queue is full", lambda: open_backend.ask("DELETE", f"/task/{waiting}", headers=headers)):
        patient = da3("image", images[0], "--export-dir", open_backend.workspace / "patient", *command)
    assert (patient.exit_code, "the queue is full" in patient.stderr) == (0, True)

    assert open_backend.stop() == 0
    log = open_backend.log.read_text()
    assert f"task {running}: failed, the backend was stopped while the task ran" in log
    assert "Traceback" not in log
    assert not (open_backend.workspace / "patient").exists()
    assert not (open_backend.workspace / "out").exists()
    assert list((open_backend.cache / "da3").iterdir()) == []


CANNOT_START: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown device": (("--device", "abacus"), "use auto, cpu, cuda"),
    "unknown model": (("--model-dir", "da4"), "unknown model 'da4'"),
    "refused licence": (("--model-dir", "da3-large", "--weights-licence", "permissive"), "CC-BY-NC-4.0"),
    "no such folder": (("--allow-root", "none"), "is no folder"),
    "not an address of this machine": (("--host", "192.0.2.1"), "cannot listen on '192.0.2.1'"),
}


@pytest.mark.parametrize("case", CANNOT_START)
def test_a_backend_that_cannot_start_says_why(da3: Command, case: str) -> None:
    arguments, sentence = CANNOT_START[case]
    result = da3("backend", "--device", "cpu", "--port", "0", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_named(da3: Command) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = da3("backend", "--model-dir", "untrained:da3-small", "--device", "cpu", "--port", port)
    assert result.exit_code == 1
    assert f"port {port}" in result.stderr


def test_without_its_packages_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fastapi'] = None; from da3_core.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", code, "backend"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert "da3_ros[service]" in process.stderr
    assert "Traceback" not in process.stderr
