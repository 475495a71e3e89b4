# SPDX-License-Identifier: Apache-2.0
"""Callbacks that may raise: the executor would keep the exception, and with it the message and all that it led to."""

import traceback
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any


class Guard:
    """Makes callbacks that never raise: what they raise is logged, once per kind and place, and counted.

    Attributes:
        caught: how many exceptions there were, by kind and place.

    Args:
        logger: of the node.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self.caught: Counter[str] = Counter()

    def __call__(self, callback: Callable[..., None]) -> Callable[..., None]:
        @wraps(callback)
        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # whatever a message can lead to: the next one is taken
                self._note(error)

        return guarded

    def _note(self, error: Exception) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {place.name}, line {place.lineno} of {place.filename.rpartition('/')[2]}"
        self.caught[kind] += 1
        if self.caught[kind] == 1:
            lines = "".join(traceback.format_exception(error))
            self._logger.error(f"A message is given up; further ones like it are counted in diagnostics. {lines}")
