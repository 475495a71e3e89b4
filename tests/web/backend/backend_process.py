# SPDX-License-Identifier: Apache-2.0
"""`da3 backend` in a process of its own, asked over real HTTP; the network is small and untrained."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[3]
DA3 = (sys.executable, "-m", "da3_core.cli")
START_S, TASK_S = 60, 60  # of a loaded machine
FINISHED = ("completed", "failed", "cancelled")
SLOW = {"process_res": 252, "max_views_per_window": 2}  # with many images: many points at which it can be cancelled


@dataclass(frozen=True)
class Answer:
    """What came back; `json` for where it is JSON."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# Torch, since `auto` may convert a step between two results that must be equal.
MODEL = ("--model-dir", "untrained:da3-small", "--device", "cpu", "--engine", "torch")


class BackendProcess:
    """`da3 backend` in a workspace of its own, until `stop`."""

    def __init__(self, workspace: Path, *arguments: str) -> None:
        self.workspace = workspace
        self.cache = workspace.parent / "cache"
        self.log = workspace.parent / "backend.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*DA3, "backend", *MODEL, "--port", "0", *arguments],
                cwd=workspace,
                env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.cache), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # the address, or the end of a process that could not start
        assert "http://" in line, self.log.read_text()
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/")
        self.port = urlsplit(self.url).port

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """Send `body` as JSON, or `raw` as it is."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TASK_S)
        try:
            connection.request(method, path, json.dumps(body).encode() if body is not None else raw, sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), names)
        finally:
            connection.close()

    def submit(self, headers: dict[str, str] | None = None, **request: Any) -> str:
        """The id of the new task."""
        answer = self.ask("POST", "/inference", {"process_res": 56, **request}, headers=headers)
        assert answer.status == 200, answer.body
        return str(answer.json["task_id"])

    def wait(
        self,
        task_id: str,
        headers: dict[str, str] | None = None,
        until: tuple[str, ...] = FINISHED,
        timeout_s: float = TASK_S,
    ) -> dict[str, Any]:
        """The task when it is in one of these states."""
        latest = time.monotonic() + timeout_s
        while time.monotonic() < latest:
            task = self.ask("GET", f"/task/{task_id}", headers=headers).json
            if task["status"] in until:
                return dict(task)
            time.sleep(0.05)
        raise AssertionError(f"task {task_id} is still {task['status']}: {self.log.read_text()}")

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(START_S)
        finally:
            self.process.kill()
            self.process.communicate()
