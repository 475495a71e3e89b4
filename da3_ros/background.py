# SPDX-License-Identifier: Apache-2.0
"""Long work that a request asks for: beside the stream, one piece at a time, and a sentence about what came of it."""

import os
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from da3_core.errors import InputError

BACKGROUND_NICENESS = 10  # a tenth of the share of others; with much less, the lock of Python would come free too late
T = TypeVar("T")


class BackgroundWork:
    """What does one kind of work, such as exports.

    Args:
        log_error: told of failures that nobody foresaw, with where they were.
        name: of one piece of work, in sentences.
        folder: where it writes.
    """

    def __init__(self, log_error: Callable[[str], object], name: str, folder: Path) -> None:
        self._log_error, self._name, self._folder = log_error, name, folder
        self._running = threading.Lock()
        self.refusal = f"Another {name} is running; ask again when it has ended."

    @property
    def is_running(self) -> bool:
        return self._running.locked()

    def wait(self) -> None:
        """Return when what is running has ended."""
        with self._running:
            pass

    def run(self, answer: Any, work: Callable[[], None]) -> None:
        """Have `work` fill in `answer`, or say in `answer.message` why that was not possible."""
        if not self._running.acquire(blocking=False):
            answer.message = self.refusal
            return
        try:
            in_background(work)
        except InputError as refusal:
            answer.message = as_sentence(refusal.spelled(repr))  # quoted, so that no name gets a capital
        except OSError as error:
            answer.message = as_sentence(f"Cannot write below {self._folder}: {error.strerror or error}")
        except Exception as error:  # whatever it can raise: the node lives on
            self._log_error(traceback.format_exc())
            answer.message = as_sentence(f"The {self._name} failed: {error}")
        finally:
            self._running.release()


def in_background(work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread that the others of this process go before."""

    def step_back() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)  # of the thread, on Linux

    with ThreadPoolExecutor(1, initializer=step_back) as worker:
        return worker.submit(work).result()


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
