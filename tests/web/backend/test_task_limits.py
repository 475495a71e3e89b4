# SPDX-License-Identifier: Apache-2.0
"""One request cannot hold the house: it ends within seconds when it is cancelled or takes too long, or never begins."""

import time
from collections.abc import Callable

import pytest
from backend_process import BackendProcess

LONG = {"process_res": 252, "max_views_per_window": 60}  # of 60 views: a single pass of half a minute and more
SOON_S = 20  # less than the pass, more than the longest of its blocks beside other tests


@pytest.fixture(scope="module")
def limited(start_backend: Callable[..., BackendProcess]) -> BackendProcess:
    return start_backend("--max-task-seconds", "4", "--max-task-gb", "4")


def scene(backend: BackendProcess) -> list[str]:
    return [str(backend.workspace / "photos" / name) for name in ("1.png", "2.jpg", "10.webp")]


def test_a_single_pass_is_cancelled_in_the_middle(backend: BackendProcess) -> None:
    backend.wait(backend.submit(image_paths=scene(backend)))  # the model is there
    running = backend.submit(image_paths=scene(backend) * 20, **LONG)
    backend.wait(running, until=("running",))
    time.sleep(2)
    assert backend.ask("GET", f"/task/{running}").json["status"] == "running"
    assert backend.ask("DELETE", f"/task/{running}").status == 200
    assert backend.wait(running, timeout_s=SOON_S)["status"] == "cancelled"
    assert backend.wait(backend.submit(image_paths=scene(backend)))["status"] == "completed"  # nothing is left of it


def test_a_task_that_takes_too_long_fails_and_the_next_of_its_kind_is_refused(limited: BackendProcess) -> None:
    task = limited.wait(limited.submit(image_paths=scene(limited) * 20, **LONG), timeout_s=4 + SOON_S)
    assert (task["status"], "longer than the 4 s that max_task_seconds allows" in task["message"]) == ("failed", True)
    assert limited.wait(limited.submit(image_paths=scene(limited)))["status"] == "completed"  # now its speed is known
    answer = limited.ask("POST", "/inference", {"image_paths": scene(limited) * 1000, **LONG})
    assert answer.status == 422
    assert "may take 4 s (max_task_seconds)" in answer.json["detail"]


def test_a_task_that_needs_too_much_memory_is_refused(limited: BackendProcess) -> None:
    many = {"image_paths": scene(limited) * 40, "process_res": 504, "max_views_per_window": 120}
    answer = limited.ask("POST", "/inference", many)
    assert answer.status == 422
    assert "may take 4 GB (max_task_gb)" in answer.json["detail"]
