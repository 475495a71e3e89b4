# SPDX-License-Identifier: Apache-2.0
"""`da3 gallery` as a process of its own, and requests that reach it exactly as they are written."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 30
HOSTILE = "<img src=x onerror=alert(1)>"  # the name of a group of the fixture `gallery`


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


@dataclass
class GalleryServer:
    """A running server.

    Attributes:
        url: with a slash at the end.
    """

    process: "subprocess.Popen[str]"
    url: str

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path as it stands, with nothing put right; `Host=` replaces that header."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; exit code and what stderr said."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, errors


@contextmanager
def gallery_server(folder: Path | str, *options: str, cwd: Path = ROOT, **environment: str) -> Iterator[GalleryServer]:
    """`da3 gallery --gallery-dir FOLDER` on a free port; ended on leaving."""
    process = subprocess.Popen(
        [sys.executable, "-m", "da3_core.cli", "gallery", "--gallery-dir", str(folder), "--port", "0", *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://\S+/", line)
        assert address, (line, process.communicate(timeout=TIMEOUT_S))
        yield GalleryServer(process, address.group())
    finally:
        process.kill()
        process.communicate()
