# SPDX-License-Identifier: Apache-2.0
"""What runs the callbacks of the node, whatever one of them raises."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, ShutdownException, TimeoutException


class ThreadedExecutor(Executor):
    """Runs callbacks in threads.

    rclpy's MultiThreadedExecutor does too, but while a callback waits for its thread to begin, it is offered and handed
    over again and again, which keeps that thread from beginning: with 60 images a second, 4,000 times a second and a
    whole processor (measured with rclpy 9.1.2).

    Attributes:
        is_ending: set before the context ends: what is raised then is told to nobody.

    Args:
        threads: that run callbacks.
        tell: told of what a callback raises, and of what rclpy does.
        context: by default the one of this process.
    """

    def __init__(
        self, threads: int, tell: Callable[[BaseException], object], *, context: Context | None = None
    ) -> None:
        super().__init__(context=context)
        self._threads, self._tell = ThreadPoolExecutor(threads, "da3_callback"), tell
        self.is_ending = False

    def spin(self) -> None:
        """Go on after an exception: one bad message must not end the node."""
        while self.context.ok():
            try:
                super().spin()
            except Exception as error:
                self._say(error)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Hand over the next callback, and return once it runs."""
        try:
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ExternalShutdownException, ShutdownException, TimeoutException):
            return
        begun = threading.Event()
        self._threads.submit(self._run, task, begun)
        begun.wait()
        while not (task.executing() or task.done()):
            time.sleep(0)

    def _run(self, task: Any, begun: threading.Event) -> None:
        begun.set()
        task()
        if task.done() and (error := task.exception()):
            self._say(error)

    def _say(self, error: BaseException) -> None:
        if not self.is_ending:
            self._tell(error)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Returns whether what ran has ended."""
        ended = bool(super().shutdown(timeout_sec))
        self._threads.shutdown()
        return ended
