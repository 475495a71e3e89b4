# SPDX-License-Identifier: Apache-2.0
"""What Fast DDS leaves in shared memory goes when its process was killed, and stays while it lives."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from da3_ros.demo.domain import free_domain, graph_environment
from da3_ros.demo.shared_memory import SEGMENT, SHARED_MEMORY, remove_abandoned_segments

PARTICIPANT = "import rclpy; rclpy.init(); node = rclpy.create_node('n'); print('ready', flush=True); input()"


def segments_of(pid: int) -> set[Path]:
    """The segments that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if str(SHARED_MEMORY) in line}
    return {path for path in paths if SEGMENT.fullmatch(path.name)}


@contextmanager
def participant(domain: int) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, **graph_environment(domain)}
    command = [sys.executable, "-c", PARTICIPANT]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_only_the_memory_of_the_dead_is_removed() -> None:
    with free_domain() as domain, participant(domain) as living:
        kept = segments_of(living.pid)  # before there is another, whose segment it would map too
        assert kept
        with participant(domain) as killed:
            left = segments_of(killed.pid) - kept
            assert left
            killed.kill()
            killed.wait()
        assert all(path.exists() for path in left)
        assert remove_abandoned_segments(older_than_s=3600) == 0
        assert all(path.exists() for path in left)
        assert remove_abandoned_segments(older_than_s=0) >= len(left)
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
