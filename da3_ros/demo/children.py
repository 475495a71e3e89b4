# SPDX-License-Identifier: Apache-2.0
"""Child processes that cannot outlive, stall or fail the demonstration unseen."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from da3_ros.demo.shared_memory import remove_abandoned_segments

POLL_S = 0.05
STOP_S = 5.0
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: a child that is just being born would be left behind."""
    pending: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: pending.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt


class DemoError(RuntimeError):
    """A step that failed, in one sentence; the end of a log may follow it."""


class Children:
    """Python processes of one run: started with their logs in `folder`, watched while waiting, stopped on exit."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._may_finish: set[str] = set()

    def __enter__(self) -> "Children":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, arguments: Sequence[str], may_finish: bool = False) -> None:
        """Run `python arguments…`. A Ctrl-C in the terminal reaches the demonstration, which stops its children.

        Args:
            may_finish: whether it may end, with success, before it is stopped.
        """
        if may_finish:
            self._may_finish.add(name)
        with self._log(name).open("wb") as log, deferred_interrupts():
            self._running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, what: str, done: Callable[[], bool], timeout_s: float, never: str | None = None) -> None:
        """Return when `done`.

        Args:
            what: in the past tense, for messages that end with "before the node was active".
            never: words in a child's log after which it will never be done.

        Raises:
            DemoError: a child ended before that, or said those words, or the time was up.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            for name, child in self._running.items():
                if never and never in self._said(name):
                    raise DemoError(f"{name} failed before {what}.{self._tail(name)}")
                if child.poll() is None or (child.returncode == 0 and name in self._may_finish):
                    continue
                raise DemoError(f"{name} ended with status {child.returncode} before {what}.{self._tail(name)}")
            if time.monotonic() > deadline:
                tails = "".join(self._tail(name) for name in self._running)
                raise DemoError(f"{timeout_s:.0f} s went by before {what}.{tails}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ask every child to end as Ctrl-C does, then insist."""
        for child in self._running.values():
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        for child in self._running.values():
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                remove_abandoned_segments()
        self._running.clear()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _said(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def _tail(self, name: str, lines: int = 12) -> str:
        return f"\n--- the end of what {name} said:\n" + "\n".join(self._said(name).splitlines()[-lines:])
