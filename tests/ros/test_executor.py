# SPDX-License-Identifier: Apache-2.0
"""The executor: callbacks in threads, each handed over once, and what they raise is told."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.context import Context

from da3_ros.executor import ThreadedExecutor

THREADS, WAIT_S = 3, 20.0


class Counting(ThreadedExecutor):
    """Counts what is handed over, in threads of no ROS graph."""

    def __init__(self, context: Context) -> None:
        self.told: list[BaseException] = []
        self.turns = 0
        super().__init__(THREADS, self.told.append, context=context)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self.turns += 1
        super().spin_once(timeout_sec)


@pytest.fixture
def executor() -> Iterator[Counting]:
    context = Context()
    rclpy.init(context=context)
    executor = Counting(context)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    yield executor
    context.try_shutdown()
    spinning.join(WAIT_S)
    executor.shutdown()
    assert not spinning.is_alive()


def test_callbacks_run_beside_each_other(executor: Counting) -> None:
    all_here = threading.Barrier(THREADS)
    tasks = [executor.create_task(all_here.wait, WAIT_S) for _ in range(THREADS)]
    wait_until(lambda: all(task.done() for task in tasks))
    assert all(task.exception() is None for task in tasks)


def test_a_callback_that_waits_for_a_thread_is_handed_over_once(executor: Counting) -> None:
    go_on = threading.Event()
    tasks = [executor.create_task(go_on.wait, WAIT_S) for _ in range(THREADS + 1)]
    for _ in range(50):  # as messages that come in do
        executor.wake()
        assert not go_on.wait(0.01)
    assert executor.turns <= 2 * len(tasks)
    go_on.set()
    wait_until(lambda: all(task.done() for task in tasks))
    assert all(task.result() for task in tasks)


def test_what_a_callback_raises_is_told_once_and_the_next_one_runs(executor: Counting) -> None:
    def fail() -> None:
        raise ValueError("it is Monday")

    executor.create_task(fail)
    wait_until(lambda: executor.told)
    after = [executor.create_task(lambda: None) for _ in range(THREADS)]
    wait_until(lambda: all(task.done() for task in after))
    assert [str(error) for error in executor.told] == ["it is Monday"]


def wait_until(condition: Callable[[], object]) -> None:
    latest = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.01)
