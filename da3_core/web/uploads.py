# SPDX-License-Identifier: Apache-2.0
"""Room for files that come over the network: how much there is for one file, for one caller, and for all together."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORM_BYTES = 1 << 20  # what a multipart form adds to its files
_CHUNK_BYTES = 1 << 20


class NoRoomError(Exception):
    """Uploads may not take more; older ones make room when they are deleted."""


class FileTooLargeError(Exception):
    """One uploaded file is larger than any may be."""


@dataclass(frozen=True)
class UploadLimits:
    """Bytes that uploads may take."""

    file: int = 1 << 28
    caller: int = 1 << 29
    total: int = 1 << 30


class UploadRoom:
    """Counts what is kept, by upload; every method may be called from any thread."""

    def __init__(self, limits: UploadLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._bytes: Counter[tuple[str, str]] = Counter()  # by caller and upload

    def take(self, caller: str, upload: str, count: int) -> None:
        """
        Raises:
            NoRoomError: that many bytes more are too many for this caller, or for all.
        """
        with self._lock:
            of_caller = sum(size for (who, _), size in self._bytes.items() if who == caller)
            together = (self._bytes.total(), self.limits.total, "together")
            for used, most, whose in (together, (of_caller, self.limits.caller, "of one caller")):
                if used + count > most:
                    raise NoRoomError(
                        f"uploads {whose} may take {most / 1e6:g} MB, and there is not enough left: "
                        "send less, or wait until older ones are deleted"
                    )
            self._bytes[caller, upload] += count

    def give_back(self, upload: str) -> None:
        """All that an upload took."""
        with self._lock:
            for key in [key for key in self._bytes if key[1] == upload]:
                del self._bytes[key]

    def keep(self, caller: str, upload: str, content: BinaryIO, path: Path) -> None:
        """Write a file as far as there is room for it.

        Raises:
            FileTooLargeError, NoRoomError: there is none.
        """
        size = 0
        with path.open("wb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > self.limits.file:
                    raise FileTooLargeError(f"a file may have {self.limits.file / 1e6:g} MB: send a smaller one")
                self.take(caller, upload, len(chunk))
                file.write(chunk)


def caller_of(scope: Scope) -> str:
    """Whom an upload is counted to: the address that it comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class CountedBodies:
    """An application whose uploads are counted while they come, since a form is on the disk before anyone reads it."""

    def __init__(self, app: ASGIApp, path: str, limits: UploadLimits) -> None:
        """
        Args:
            path: where uploads are posted to.
            limits: of what is on its way, but for what forms add; what is kept is counted by itself.
        """
        self._app, self._path = app, path
        self._room = UploadRoom(UploadLimits(limits.file, limits.caller + FORM_BYTES, limits.total + FORM_BYTES))
        self._numbers = iter(range(1 << 62))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        caller, upload = caller_of(scope), str(next(self._numbers))

        async def counted() -> Message:
            message = await receive()
            try:
                self._room.take(caller, upload, len(message.get("body", b"")))
            except NoRoomError as error:
                raise HTTPException(507, str(error)) from error
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._room.give_back(upload)
