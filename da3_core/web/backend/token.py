# SPDX-License-Identifier: Apache-2.0
"""A token that a backend made up for itself, and the file in which commands of the same user find it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from da3_core.storage.staging import write_atomically


def make_token() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


@contextmanager
def shared_token(token: str, port: int) -> Iterator[None]:
    """Within the block, `find_token(port)` of the same user on this machine finds the token."""
    path = _path(port)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, token.encode(), mode=0o600)
    try:
        yield
    finally:
        if find_token(port) == token:
            path.unlink(missing_ok=True)


def find_token(port: int) -> str | None:
    """What the backend of this user on that port of this machine made up, if it did."""
    try:
        return _path(port).read_text()
    except OSError:
        return None


def _path(port: int) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "da3" / f"backend-{port}.token"
