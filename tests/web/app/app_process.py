# SPDX-License-Identifier: Apache-2.0
"""`da3 gradio` as a process of its own, which must go quietly and leave nothing of its visitors behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "da3_core.cli", "gradio", "--model-dir", "untrained:da3-small", "--device", "cpu")


@dataclass(frozen=True)
class ServedApp:
    """Where it listens, and its folders."""

    url: str
    workspace: Path
    gallery: Path


@contextmanager
def served_app(folder: Path, *further: str) -> Iterator[ServedApp]:
    """With a small untrained model, on a free port, within a folder; the results of its examples are computed.

    Args:
        further: options of the command.
    """
    workspace, gallery = folder / "workspace", folder / "gallery"
    options = ["--workspace-dir", str(workspace), "--gallery-dir", str(gallery), "--port", "0"]
    options += ["--process-res", "112", "--cache-examples", *further]
    # No proxy that may be set up here is to be asked for this machine's own addresses.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1,localhost"}
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, *options], env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line + (folder / "errors.txt").read_text()
        yield ServedApp(address[0], workspace, gallery)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    finally:
        process.kill()
        process.communicate()
    text = (folder / "errors.txt").read_text()
    assert process.returncode == 0, text
    assert "Traceback" not in text, text
    assert text.endswith("app ended\n")
    assert not list((workspace / "input_images").glob("session_*"))
