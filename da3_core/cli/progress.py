# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr: a bar per stage at a terminal; elsewhere a log line now and then, and one per stage."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

LOG_PERIOD_S = 30.0

_input_name = ContextVar("_input_name", default="")


@contextmanager
def telling_of(name: str) -> Iterator[None]:
    """Within the block, what this thread says begins with the name of an input, as others do too."""
    before = _input_name.set(f"{name}: ")
    try:
        yield
    finally:
        _input_name.reset(before)


class StderrHandler(logging.Handler):
    """Log lines on stderr that do not tear a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s: %(input_name)s%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        record.input_name = _input_name.get()
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def stage(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a stage of the work while the `with` block runs.

    Yields:
        `advance(n)`: says that `n` more of `total` units are done.
    """
    from tqdm import tqdm

    with tqdm(total=total, desc=f"{_input_name.get()}{name}", unit=unit, file=sys.stderr, disable=None) as bar:
        if not bar.disable:
            yield bar.update
            return
        log = _ProgressLog(name, total, unit)
        yield log.advance
        logger.info("%s: %d %s in %.1f s", name, log.done, unit, log.elapsed_s)


class _ProgressLog:
    """Tells rate and remaining time in log lines."""

    def __init__(self, name: str, total: int, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._start_s = time.perf_counter()
        self._told_s = 0.0
        self.done = 0

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._start_s

    def advance(self, count: int) -> None:
        self.done += count
        elapsed_s = self.elapsed_s
        if 0 < self.done < self._total and elapsed_s - self._told_s >= LOG_PERIOD_S:
            self._told_s = elapsed_s
            rate = self.done / elapsed_s
            minutes, seconds = divmod(round((self._total - self.done) / rate), 60)
            logger.info(
                "%s: %d of %d %s, %.2f per second, %d:%02d left",
                self._name,
                self.done,
                self._total,
                self._unit,
                rate,
                minutes,
                seconds,
            )
