# SPDX-License-Identifier: Apache-2.0
"""Callbacks that raise: a line in the log, a count, and nothing that stays."""

import gc
import weakref

from da3_ros.callbacks import Guard


class Lines(list[str]):
    def error(self, text: str) -> None:
        self.append(text)


class Message:
    """Whatever a callback was given."""


def test_what_callbacks_raise_is_told_once_per_kind_and_place_counted_and_not_kept() -> None:
    lines, kept = Lines(), []
    guard = Guard(lines)

    @guard
    def callback(number: int, message: Message) -> None:
        if number % 2:
            raise ValueError("odd")
        _ = 1 / 0

    for number in range(10):
        message = Message()
        kept.append(weakref.ref(message))
        callback(number, message)
    del message
    gc.collect()
    assert [each() for each in kept] == [None] * 10
    assert sorted(guard.caught.values()) == [5, 5]
    assert len(lines) == 2
    assert any("ValueError: odd" in line for line in lines)
