# SPDX-License-Identifier: Apache-2.0
"""A bag that is complete or absent: it is written beside its place and gets its name when it is closed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from da3_core.bag.options import Storage
from da3_core.errors import InputError


class BagWriter:
    """A new ROS 2 bag, within a `with` block. An exception leaves nothing behind."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        """Raises InputError when there is something at `folder` already, or it cannot be made."""
        from rosbags.rosbag2 import StoragePlugin, Writer

        if folder.exists():
            raise InputError(f"{folder} exists; a bag is written to a new folder, so choose another name or remove it")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as error:
            raise InputError(f"cannot write to {folder.parent} ({error.strerror}): choose another place") from error
        self.folder = folder
        self._writer = Writer(self._unfinished / folder.name, version=9, storage_plugin=StoragePlugin[storage.upper()])
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._writer.close()
                os.replace(self._unfinished / self.folder.name, self.folder)
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def add(self, topic: str, type_name: str, typestore: Any, qos: Sequence[Any] = ()) -> None:
        """Announce a topic, with the whole definition of its type."""
        self._connections[topic] = self._writer.add_connection(
            topic, type_name, typestore=typestore, offered_qos_profiles=qos
        )

    def has(self, topic: str) -> bool:
        return topic in self._connections

    def write(self, topic: str, time_ns: int, raw: bytes | memoryview) -> None:
        """One message of an announced topic, as CDR."""
        self._writer.write(self._connections[topic], time_ns, raw)
