# SPDX-License-Identifier: Apache-2.0
"""Records of Python's logging, handed to a logger such as rclpy's."""

import logging

from da3_ros.logs import RosLogHandler


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
