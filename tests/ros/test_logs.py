# SPDX-License-Identifier: Apache-2.0
"""Records of Python's logging, handed to a logger such as rclpy's."""

import logging

from da3_ros.logs import MOST_CHARACTERS, REPEATED_S, RosLogHandler


class Lines(list[tuple[str, str]]):
    """A logger whose log is a list."""

    def debug(self, text: str) -> None:
        self.append(("debug", text))

    def info(self, text: str) -> None:
        self.append(("info", text))

    def warning(self, text: str) -> None:
        self.append(("warning", text))

    def error(self, text: str) -> None:
        self.append(("error", text))


def test_every_record_keeps_its_severity():
    lines = Lines()
    logger = logging.Logger("of this test", logging.DEBUG)
    logger.addHandler(RosLogHandler(lines))
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "%d frames", level)
    assert lines == [
        ("debug", "10 frames"),
        ("info", "20 frames"),
        ("warning", "30 frames"),
        ("error", "40 frames"),
        ("error", "50 frames"),
    ]


def test_what_others_wrote_does_not_fill_a_log():
    lines = Lines()
    logger = logging.Logger("of this test", logging.DEBUG)
    logger.addHandler(RosLogHandler(lines))
    logger.warning("x" * 1_000_000)
    [(_, text)] = lines
    assert len(text) < MOST_CHARACTERS + 50
    assert text.endswith("(1000000 characters)")


def test_a_warning_of_every_window_is_told_now_and_then():
    lines, now_s = Lines(), 0.0
    logger = logging.Logger("of this test", logging.DEBUG)
    logger.addHandler(RosLogHandler(lines, now_s=lambda: now_s))
    for number in range(5):
        now_s = number * REPEATED_S / 4
        logger.warning("no camera poses from features: %d matches", number)
    told = "no camera poses from features: {} matches"
    assert [text for _, text in lines] == [told.format(0), told.format(4) + " (3 more like it in between)"]
