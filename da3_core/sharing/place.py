# SPDX-License-Identifier: Apache-2.0
"""Where a model process is met: a socket in a folder that this user alone can enter."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from da3_core.errors import InputError

NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
LONGEST_PATH = 100  # bytes of the path of a socket, on every system
POLL_S = 0.02
END_S = 10.0  # that a process which lets nobody in any more may take to end


@dataclass(frozen=True)
class Place:
    """The files of one name."""

    folder: Path
    name: str

    @classmethod
    def of(cls, name: str) -> Place:
        """That of this user: in `$XDG_RUNTIME_DIR/da3_ros`, or in a folder of its own for temporary files.

        Raises:
            InputError: not a name, or others could get into the folder.
        """
        if not NAMES.fullmatch(name):
            raise InputError(f"the process is called {name!r}: give up to 32 letters, digits, hyphens and underscores")
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        folder = Path(runtime) / "da3_ros" if runtime else Path(tempfile.gettempdir()) / f"da3_ros-{os.getuid()}"
        place = cls(folder, name)
        if len(os.fsencode(place.address)) > LONGEST_PATH:
            raise InputError(f"{place.address} is too long for a socket: set XDG_RUNTIME_DIR to a shorter path")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            raise InputError(
                f"cannot make {folder} ({error.strerror}): set XDG_RUNTIME_DIR to another folder"
            ) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise InputError(f"others can get into {folder}: remove it, or set XDG_RUNTIME_DIR to another folder")
        return place

    @property
    def address(self) -> Path:
        """Of the socket."""
        return self.folder / f"{self.name}.sock"

    @property
    def log(self) -> Path:
        """What the process says."""
        return self.folder / f"{self.name}.log"

    def connected(self) -> socket.socket:
        """A connection to the process.

        Raises:
            OSError: there is none.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self.address))
        except OSError:
            connection.close()
            raise
        return connection

    @contextmanager
    def held(self) -> Iterator[socket.socket | None]:
        """The listening socket, for this process and its children; None where another process listens.

        Raises:
            InputError: another one has the place, and does not listen.
        """
        deadline_s = time.monotonic() + END_S
        with (self.folder / f"{self.name}.lock").open("wb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
                try:
                    self.connected().close()
                except OSError:
                    if time.monotonic() > deadline_s:
                        raise InputError(f"the process {self.name} does not end: give another name") from None
                    time.sleep(POLL_S)
                else:
                    yield None
                    return
            self.address.unlink(missing_ok=True)  # of one that was killed
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(self.address))
                listener.listen()
                try:
                    yield listener
                finally:
                    self.address.unlink(missing_ok=True)
