# SPDX-License-Identifier: Apache-2.0
"""What the library says through Python's logging goes to the node's logger, and so to /rosout."""

import logging
from typing import Any


class RosLogHandler(logging.Handler):
    """Hands records to a logger of rclpy."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Each severity has a line of its own, because rclpy remembers one severity per line."""
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)
