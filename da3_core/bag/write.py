# SPDX-License-Identifier: Apache-2.0
"""A bag that is complete or absent: it is written in a hidden folder beside its place and gets its name when it is
closed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from da3_core.bag.options import Storage
from da3_core.errors import InputError
from da3_core.storage.opened_folder import OpenedFolder, opened

OpenFolder = Callable[[Path], AbstractContextManager[OpenedFolder]]
open_or_make: OpenFolder = partial(opened, make=True)  # as whoever runs this process may


class OutputError(InputError):
    """The place for the new bag is full, not writable or gone."""


class BagWriter:
    """A new ROS 2 bag, within a `with` block. An exception leaves nothing behind.

    Until then it is in the folder `.NAME.part`, which the process has open and locked. A killed process cannot remove
    it; the next one that writes the same bag does.
    """

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        open_parent: OpenFolder = open_or_make,
    ) -> None:
        """Take the place for the bag.

        Args:
            open_parent: opens the folder that it comes into, such as `AllowedFolders.opened`.

        Raises:
            InputError: there is something at `folder` already, or another process is writing it.
            OutputError: nothing can be written there.
        """
        from rosbags.rosbag2 import StoragePlugin, Writer

        if folder.exists():
            raise InputError(f"{folder} exists; a bag is written to a new folder, so choose another name or remove it")
        self.folder = folder
        with ExitStack() as places, self._failures_in_words():
            self._parent = places.enter_context(open_parent(folder.parent))
            self._part = places.enter_context(self._locked())
            self._places = places.pop_all()
        self._part.remove(folder.name)  # of a killed process
        unfinished = self._part.path / folder.name
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
                    name = self.folder.name
                    os.rename(name, name, src_dir_fd=self._part.fd, dst_dir_fd=self._parent.fd)
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

    def _locked(self) -> OpenedFolder:
        """Our hidden folder, which nobody else has locked; the end of the process unlocks it."""
        name = f".{self.folder.name}.part"
        while True:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._parent.fd)
            with suppress(FileNotFoundError):  # removed by a process that ended just now
                part = self._parent.folder(PurePath(name))
                try:
                    part.lock()
                except BlockingIOError:
                    part.close()
                    message = f"another process is writing {self.folder}; choose another name or wait"
                    raise InputError(message) from None
                there = self._parent.stat(name)
                if there is not None and os.path.samestat(os.fstat(part.fd), there):
                    return part
                part.close()

    def _remove(self) -> None:
        self._parent.remove(self._part.name)
        self._places.close()

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
