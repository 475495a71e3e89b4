# SPDX-License-Identifier: Apache-2.0
"""Progress on stderr: a bar per stage at a terminal, a log line per stage elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class StderrHandler(logging.Handler):
    """Log lines on stderr that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def stage(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Show a stage of the work while the `with` block runs.

    Yields:
        `advance(n)`: says that `n` more of `total` units are done.
    """
    from tqdm import tqdm

    start = time.perf_counter()
    with tqdm(total=total, desc=name, unit=unit, file=sys.stderr, disable=None) as bar:
        yield bar.update
        if bar.disable:
            logger.info("%s: %d %s in %.1f s", name, total, unit, time.perf_counter() - start)
