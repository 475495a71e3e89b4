# SPDX-License-Identifier: Apache-2.0
"""What visitors upload: each file in a folder that nobody can guess, which is how we know whose it is."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import BinaryIO

from da3_core.errors import InputError
from da3_core.web.uploads import UploadLimits, UploadRoom


class VisitorUploads:
    """Files below one folder until `expire`; every method may be called from any thread.

    Attributes:
        root: holds `<secret>/<name>`.
    """

    def __init__(self, root: Path, limits: UploadLimits, idle_s: float) -> None:
        """
        Args:
            root: a folder that only this process uses; made if absent.
            idle_s: seconds without use after which `expire` deletes a file.
        """
        self.root, self.limits, self._idle_s = root, limits, idle_s
        self._room = UploadRoom(limits)
        self._lock = threading.Lock()
        self._last_used: dict[str, float] = {}
        root.mkdir(exist_ok=True)

    def add(self, caller: str, name: str, content: BinaryIO) -> Path:
        """Keep a file; whoever knows its path uploaded it.

        Raises:
            FileTooLargeError, NoRoomError: there is no room for it.
        """
        secret = secrets.token_hex(16)
        folder = self.root / secret
        folder.mkdir()
        try:
            path = folder / _harmless(name)
            self._room.keep(caller, secret, content, path)
        except BaseException:
            self._remove(secret)
            raise
        with self._lock:
            self._last_used[secret] = time.monotonic()
        return path

    def find(self, path: str) -> Path:
        """
        Raises:
            InputError: the path is not of a file that was uploaded, or it is deleted.
        """
        given = Path(path)
        with self._lock:
            if given.parent.parent == self.root and given.parent.name in self._last_used and given.is_file():
                self._last_used[given.parent.name] = time.monotonic()
                return given
        raise InputError(f"the file {given.name!r} was not uploaded here, or is deleted by now: upload it again")

    def expire(self) -> None:
        """Delete what nobody has used for too long."""
        oldest = time.monotonic() - self._idle_s
        with self._lock:
            old = [secret for secret, last_used in self._last_used.items() if last_used < oldest]
        for secret in old:
            self._remove(secret)

    def _remove(self, secret: str) -> None:
        with self._lock:
            self._last_used.pop(secret, None)
        shutil.rmtree(self.root / secret, ignore_errors=True)
        self._room.give_back(secret)


def _harmless(name: str) -> str:
    last = Path(name.replace("\\", "/")).name
    return re.sub(r"[^\w .()-]", "_", last).strip(" .")[-60:].strip(" .") or "file"
