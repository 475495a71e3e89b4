# SPDX-License-Identifier: Apache-2.0
"""How the node starts and ends: refusals in a sentence and a status, Ctrl-C without a traceback."""

import os
import signal
import time
from pathlib import Path

import pytest
from footage import Footage
from harness import Graph

from da3_ros.node import ENDING_S

ROOM_UNDER_LOAD_S = 2.0  # where other tests have the processors


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("window_size: 4", ("'window_size'", "window.size")),
        ("process_res: 3", ("process_res is 3", "from 14 to 8192")),
        ("tf.mode: sideways", ("'sideways'", "camera, map_to_odom, none")),
        ("window: {size: 2, stride: 3}", ("window.stride is 3", "window.size 2")),
    ],
)
def test_a_wrong_parameter_file_ends_the_start_with_a_sentence(
    graph: Graph, tmp_path: Path, parameter: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(f"/**:\n  ros__parameters:\n    {parameter}\n")
    node = graph.start_node({}, "--params-file", str(file))
    assert node.wait() == 1
    assert all(word in node.log for word in words)
    assert "Traceback" not in node.log
    assert node.log.count("[FATAL]") == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_asked_to(graph: Graph, ending: signal.Signals) -> None:
    node = graph.start_node({})
    graph.wait_for("the node to be active", lambda: "Active:" in node.log)
    assert node.end(ending) == 0
    assert "Traceback" not in node.log
    assert "[ERROR]" not in node.log


@pytest.mark.parametrize(("ending", "doing"), [(signal.SIGINT, "inference"), (signal.SIGTERM, "load")])
def test_it_ends_at_once_whatever_the_model_is_doing(
    graph: Graph, footage: Footage, ending: signal.Signals, doing: str
) -> None:
    node = graph.start_node({"window.size": 1}, "--", "--endless", doing)
    camera = graph.camera()

    def is_busy() -> bool:
        if doing == "inference":
            camera.publish("/image", *footage.images([0]))
        return f"endless {doing}" in node.log

    graph.wait_for("the model to be busy", is_busy)
    others = memory_of(os.getpid()) | memory_of(camera.process.pid)
    segments = memory_of(node.pid) - others
    assert segments
    start_s = time.monotonic()
    os.kill(node.pid, ending)
    os.kill(node.pid, signal.SIGINT)  # the terminal's, beside that of a launch system
    assert node.wait() == 0
    assert time.monotonic() - start_s < 2 * ENDING_S + ROOM_UNDER_LOAD_S
    assert not any(segment.exists() for segment in segments)
    assert "Traceback" not in node.log


def memory_of(pid: int) -> set[Path]:
    """The segments of shared memory that a process has open, those of others that it reads among them."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]) for line in lines if "/dev/shm/fast" in line and "_port" not in line}
