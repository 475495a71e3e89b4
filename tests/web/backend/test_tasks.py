# SPDX-License-Identifier: Apache-2.0
"""The queue without HTTP: what is remembered for how long, and how it ends."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from da3_core.errors import InputError
from da3_core.options import ModelOptions
from da3_core.web.backend.backend import Backend, BackendOptions
from da3_core.web.backend.tasks import Progress, StoppingError, TaskQueue, UnknownTaskError
from da3_core.web.model_runner import ModelRunner

WAIT_S = 30


def wait_until(condition: Callable[[], bool]) -> None:
    latest = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.01)


def nothing(progress: Progress) -> None:
    progress.report("working", 0.5)


def refuse(progress: Progress) -> None:
    raise InputError("the input is wrong: give another")


def crash(progress: Progress) -> None:
    raise ZeroDivisionError("of all things")


def finished(tasks: TaskQueue, *ids: str) -> Callable[[], bool]:
    return lambda: all(tasks.status(task_id).completed_at for task_id in ids)


def test_a_task_that_fails_takes_none_with_it() -> None:
    tasks = TaskQueue()
    tasks.start()
    ids = [tasks.submit(work) for work in (refuse, crash, nothing)]
    wait_until(finished(tasks, *ids))
    ends = [(tasks.status(task_id).status, tasks.status(task_id).message) for task_id in ids]
    assert ends[0] == ("failed", "the input is wrong: give another")
    assert ends[1] == ("failed", "ZeroDivisionError: of all things (the backend's log shows where)")
    assert ends[2][0] == "completed"
    tasks.stop(WAIT_S)
    assert tasks.has_ended


def test_finished_tasks_are_remembered_for_as_long_as_was_said_however_many_they_are() -> None:
    tasks = TaskQueue(size=200, retention_seconds=2)
    tasks.start()
    ids = [tasks.submit(nothing) for _ in range(150)]
    wait_until(finished(tasks, *ids))
    tasks.drop_old()
    assert [task.task_id for task in tasks.statuses()] == ids
    time.sleep(2.1)
    tasks.drop_old()
    assert tasks.statuses() == []
    with pytest.raises(UnknownTaskError, match="no longer kept") as dropped:
        tasks.status(ids[0])
    assert dropped.value.was_dropped
    with pytest.raises(UnknownTaskError, match="does not exist"):
        tasks.status("another")
    tasks.stop(WAIT_S)


def test_stopping_leaves_no_task_without_an_end() -> None:
    tasks = TaskQueue()
    tasks.start()
    began, go_on = threading.Event(), threading.Event()

    def stubborn(progress: Progress) -> None:
        began.set()
        go_on.wait(WAIT_S)

    running, waiting = tasks.submit(stubborn), tasks.submit(nothing)
    assert began.wait(WAIT_S)
    tasks.stop(timeout=0.1)
    assert not tasks.has_ended
    for task_id in (running, waiting):
        assert (tasks.status(task_id).status, "was stopped" in tasks.status(task_id).message) == ("failed", True)
    with pytest.raises(StoppingError):
        tasks.submit(nothing)
    go_on.set()
    wait_until(lambda: tasks.has_ended)
    assert tasks.status(running).status == "failed"  # what was said stays said


def test_the_backend_clears_up_by_itself(tmp_path: Path) -> None:
    options = BackendOptions([tmp_path], retention_seconds=0)
    backend = Backend(ModelRunner(ModelOptions("untrained:da3-small", device="cpu")), options)
    picture = Path(__file__).parents[3] / "docs/demo.jpg"
    _, (image,), _ = backend.upload([("a.jpg", io.BytesIO(picture.read_bytes()))])
    backend.start()
    task_id = backend.tasks.submit(nothing)
    wait_until(lambda: not backend.tasks.statuses() and not image.exists())
    with pytest.raises(UnknownTaskError, match="no longer kept"):
        backend.tasks.status(task_id)
    root = backend.uploads.root
    backend.stop()
    assert not root.exists()
