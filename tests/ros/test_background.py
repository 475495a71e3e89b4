# SPDX-License-Identifier: Apache-2.0
"""Work in the background: one piece at a time, and a sentence whatever becomes of it."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from da3_core.errors import InputError, OptionError
from da3_ros.background import BACKGROUND_NICENESS, BackgroundWork

WAIT_S = 20.0


class Asked:
    """Work of one kind; what the log has of it is in a list."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.work = BackgroundWork(self.log.append, "export", Path("/results"))

    def message(self, work) -> str:
        answer = SimpleNamespace(message="done")
        self.work.run(answer, work)
        assert not self.work.is_running
        return answer.message


def failing(error: Exception):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("the scope is wrong; give another"), "The scope is wrong; give another."),
        (OptionError("{output_bag} is taken"), "'output_bag' is taken."),
        (OSError(errno.ENOSPC, "No space left on device"), "Cannot write below /results: No space left on device."),
        (OSError("gone"), "Cannot write below /results: gone."),
    ],
)
def test_what_can_be_foreseen_is_told_to_who_asked_alone(error, message):
    it = Asked()
    assert it.message(failing(error)) == message
    assert it.log == []


def test_what_nobody_foresaw_is_in_the_log_too_and_the_next_one_is_done():
    it = Asked()
    assert it.message(failing(ZeroDivisionError("division by zero"))) == "The export failed: division by zero."
    assert "ZeroDivisionError: division by zero" in it.log[0]
    assert it.message(lambda: None) == "done"
    assert len(it.log) == 1


def test_one_at_a_time():
    it, second = Asked(), SimpleNamespace(message="")
    began, may_end = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert may_end.wait(WAIT_S)

    with ThreadPoolExecutor(1) as other:
        first = other.submit(it.message, work)
        assert began.wait(WAIT_S)
        it.work.run(second, lambda: None)
        may_end.set()
        assert first.result(WAIT_S) == "done"
    it.work.wait()
    assert second.message == "Another export is running; ask again when it has ended."


def test_it_goes_behind_the_other_threads_of_the_process():
    niceness: list[int] = []
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert (
        Asked().message(lambda: niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))) == "done"
    )
    assert niceness == [BACKGROUND_NICENESS]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == here
