# SPDX-License-Identifier: Apache-2.0
"""What has been said already: a stream repeats itself, a log must not."""

MOST_TOLD = 20  # sentences of one kind; values that change with every message would fill a log


class Told:
    """Which sentence of every kind was the last one."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def is_new(self, kind: str, sentence: str) -> bool:
        """Whether a sentence is another than the last one of its kind; it is the last one from now on.

        An empty one, for what is well again, makes the next one new; there is nothing to tell about it.
        """
        changed = self._last.get(kind, "") != sentence
        self._last[kind] = sentence
        if not changed or not sentence or self._count.get(kind, 0) >= MOST_TOLD:
            return False
        self._count[kind] = self._count.get(kind, 0) + 1
        return True
