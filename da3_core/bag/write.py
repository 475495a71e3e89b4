# SPDX-License-Identifier: Apache-2.0
"""A bag that is complete or absent: it is written in a hidden folder beside its place and gets its name when it is
closed."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from da3_core.bag.options import Storage
from da3_core.errors import InputError

LOCK = "lock"


class OutputError(InputError):
    """The place for the new bag is full, not writable or gone."""


class BagWriter:
    """A new ROS 2 bag, within a `with` block. An exception leaves nothing behind.

    Until then it is in the folder `.NAME.part`, which the process holds a lock on. A killed process cannot remove it;
    the next one that writes the same bag does.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        """Take the place for the bag.

        Raises:
            InputError: there is something at `folder` already, or another process is writing it.
            OutputError: nothing can be written there.
        """
        from rosbags.rosbag2 import StoragePlugin, Writer

        if folder.exists():
            raise InputError(f"{folder} exists; a bag is written to a new folder, so choose another name or remove it")
        self.folder = folder
        self._part = folder.with_name(f".{folder.name}.part")
        with self._failures_in_words():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        unfinished = self._part / folder.name
        shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process
        self._writer = Writer(unfinished, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        try:
            with self._failures_in_words():
                self._writer.open()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with self._failures_in_words():
                    self._writer.close()
                    os.replace(self._part / self.folder.name, self.folder)
        finally:
            with suppress(Exception):  # closing writes what is buffered, which a full disk refuses once more
                self._writer.abort()
            self._remove()

    def add(self, topic: str, type_name: str, typestore: Any, qos: Sequence[Any] = ()) -> None:
        """Announce a topic, with the whole definition of its type."""
        with self._failures_in_words():
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=typestore, offered_qos_profiles=qos
            )

    def has(self, topic: str) -> bool:
        return topic in self._connections

    def write(self, topic: str, time_ns: int, raw: bytes | memoryview) -> None:
        """One message of an announced topic, as CDR."""
        with self._failures_in_words():
            self._writer.write(self._connections[topic], time_ns, raw)

    def _locked(self) -> IO[bytes]:
        """The open lock file of our hidden folder, which nobody else has locked; the end of the process unlocks it."""
        while True:
            self._part.mkdir(exist_ok=True)
            try:
                lock = (self._part / LOCK).open("wb")
            except OSError:
                with suppress(OSError):  # not empty: it is another process's
                    self._part.rmdir()
                raise
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise InputError(f"another process is writing {self.folder}; choose another name or wait") from None
            with suppress(FileNotFoundError):  # removed by a process that ended just now
                if os.path.samestat(os.fstat(lock.fileno()), (self._part / LOCK).stat()):
                    return lock
            lock.close()

    def _remove(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)
        self._lock.close()

    @contextmanager
    def _failures_in_words(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(
                f"cannot write {self.folder} ({reason or error}): make room or choose another place; nothing "
                "of it is left"
            ) from error
