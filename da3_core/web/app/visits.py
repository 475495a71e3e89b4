# SPDX-License-Identifier: Apache-2.0
"""What the app keeps for a visitor, a folder and the latest prediction, and when it lets go of both."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError

if TYPE_CHECKING:
    from da3_core.prediction import Prediction

_PREFIX = "session_"


@dataclass(eq=False)
class Visit:
    """One set of uploads and what became of it.

    Attributes:
        folder: everything on disk; it goes with the visit.
        images: the views, in order.
        prediction: the latest one, without its Gaussians.
        is_cancelled: its visitor does not want the result that is being made.
        is_closed: nobody can open it any more; who works in it may stop, and the last one's leaving deletes it.
    """

    folder: Path
    images: tuple[Path, ...] = ()
    prediction: Prediction | None = None
    is_cancelled: bool = False
    is_closed: bool = False
    _users: int = field(default=0, repr=False)
    _last_used: float = field(default_factory=time.monotonic, repr=False)

    @property
    def result_folder(self) -> Path:
        """Files of the latest prediction."""
        return self.folder / "result"


class Visits:
    """The visits of all visitors; every method may be called from any thread."""

    def __init__(self, root: Path, idle_s: float) -> None:
        """
        Args:
            root: where their folders are; those that an earlier process left there for longer than `idle_s` go now.
            idle_s: seconds without use after which `expire` closes a visit.
        """
        self._root, self._idle_s = root, idle_s
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        for folder in root.glob(f"{_PREFIX}*"):
            if time.time() - folder.stat().st_mtime > idle_s:
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def in_use(self) -> bool:
        """Whether somebody is within a `use` block now."""
        with self._lock:
            return any(visit._users for visit in self._visits.values())

    def open(self) -> str:
        """A new visit; its key cannot be guessed from others."""
        folder = self._root / f"{_PREFIX}{time.time_ns() // 1000}_{secrets.token_hex(8)}"
        folder.mkdir()
        with self._lock:
            self._visits[folder.name] = Visit(folder)
        return folder.name

    @contextmanager
    def use(self, key: str | None) -> Iterator[Visit]:
        """The visit, which does not expire within the `with` block.

        Raises:
            InputError: there is none, or no longer.
        """
        if key is None:
            raise InputError("there are no images yet: upload some, or a video")
        with self._lock:
            visit = self._visits.get(key)
            if visit is None or visit.is_closed:
                raise InputError(
                    f"this visit is gone, as after {self._idle_s / 3600:g} hours without use: upload again"
                )
            visit._users += 1
        try:
            yield visit
        finally:
            with self._lock:
                visit._users -= 1
                visit._last_used = time.monotonic()
            if visit.is_closed:
                self.close(key)

    def close(self, key: str | None) -> None:
        """Delete a visit and its files, if it is still there, once nobody is within a `use` block."""
        with self._lock:
            visit = self._visits.get(key) if key else None
            if visit is None:
                return
            visit.is_closed = True
            if visit._users:
                return
            del self._visits[visit.folder.name]
        shutil.rmtree(visit.folder, ignore_errors=True)

    def expire(self) -> None:
        """Close what nobody has used for too long."""
        oldest = time.monotonic() - self._idle_s
        with self._lock:
            idle = [key for key, one in self._visits.items() if not one._users and one._last_used < oldest]
        for key in idle:
            self.close(key)

    def delete_all(self) -> None:
        """At the end of the process, whoever may still be at work."""
        for visit in list(self._visits.values()):
            shutil.rmtree(visit.folder, ignore_errors=True)
