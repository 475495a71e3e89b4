# SPDX-License-Identifier: Apache-2.0
"""What the library says through Python's logging goes to the node's logger, and so to /rosout."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

REPEATED_S = 10.0  # so long, a warning that comes again from the same place is only counted
MOST_CHARACTERS = 2000  # of a line that holds what others wrote


def bounded(text: str) -> str:
    """A text that may hold what others wrote: not longer than a screen."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ... ({len(text)} characters)"


class RosLogHandler(logging.Handler):
    """Hands records to a logger of rclpy; the same warning of every window is one every `REPEATED_S`."""

    def __init__(self, logger: Any, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._logger, self._now_s = logger, now_s
        self._told_s: dict[tuple[object, ...], float] = {}  # when a line of the source last warned
        self._untold: Counter[tuple[object, ...]] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Each severity has a line of its own, because rclpy remembers one severity per line."""
        text = bounded(self.format(record))
        if record.levelno == logging.WARNING:
            place, now_s = (record.pathname, record.lineno), self._now_s()
            if now_s - self._told_s.get(place, -REPEATED_S) < REPEATED_S:
                self._untold[place] += 1
                return
            self._told_s[place] = now_s
            if untold := self._untold.pop(place, 0):
                text += f" ({untold} more like it in between)"
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)
