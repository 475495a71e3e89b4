# SPDX-License-Identifier: Apache-2.0
"""Tasks on the disk, so that they outlive the process, however it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from da3_core.errors import InputError

# What is known of a task: see `tasks._Task`. `request` and `result` are JSON.
_COLUMNS = (
    *("task_id", "kind", "state", "message", "progress", "created_at", "started_at", "completed_at"),
    *("attempts", "request", "result"),
)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS tasks ({", ".join(_COLUMNS)}, PRIMARY KEY (task_id));
CREATE TABLE IF NOT EXISTS dropped (task_id PRIMARY KEY, dropped_at);
"""
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM tasks ORDER BY rowid"


class StoreError(Exception):
    """A task cannot be kept, mostly because the disk is full."""


class TaskStore:
    """A SQLite database; what a method has written is there after the process was killed. Any thread may call."""

    def __init__(self, path: Path | None = None) -> None:
        """
        Args:
            path: a file, made if absent; None keeps everything in memory.

        Raises:
            InputError: it cannot be read or written, or is something else.
        """
        try:
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")  # whole after a kill, and after a loss of power
            self._database.executescript(_SCHEMA)
            self._database.execute(_ALL).close()
        except sqlite3.Error as error:
            raise InputError(
                f"the tasks of earlier backends cannot be read from {path} ({error}): move the file away"
            ) from error
        self._lock = Lock()

    def save(self, task: Mapping[str, Any]) -> None:
        """Raises StoreError."""
        names = ", ".join(_COLUMNS)
        values = ", ".join("?" * len(_COLUMNS))
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        self._write(
            f"INSERT INTO tasks ({names}) VALUES ({values}) ON CONFLICT (task_id) DO UPDATE SET {updates}",
            [task[name] for name in _COLUMNS],
        )

    def drop(self, task_id: str, dropped_at: float) -> None:
        """Forget a task, but for its id. Raises StoreError."""
        self._write("INSERT OR REPLACE INTO dropped VALUES (?, ?)", [task_id, dropped_at])
        self._write("DELETE FROM tasks WHERE task_id = ?", [task_id])

    def forget_dropped(self, task_id: str) -> None:
        """Raises StoreError."""
        self._write("DELETE FROM dropped WHERE task_id = ?", [task_id])

    def tasks(self) -> list[dict[str, Any]]:
        """In the order in which they were saved first."""
        return [dict(zip(_COLUMNS, row, strict=True)) for row in self._read(_ALL)]

    def dropped(self) -> dict[str, float]:
        """When tasks were dropped, by id, the oldest first."""
        rows = self._read("SELECT task_id, dropped_at FROM dropped ORDER BY dropped_at")
        return {str(task_id): float(dropped_at) for task_id, dropped_at in rows}

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        with self._lock, closing(self._database.execute(statement)) as rows:
            return rows.fetchall()

    def _write(self, statement: str, values: list[Any]) -> None:
        try:
            with self._lock:
                self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise StoreError(f"the task cannot be kept on the disk ({error}): make room there") from error
