# SPDX-License-Identifier: Apache-2.0
"""Copies of what cannot be read where it lies, in a folder that is gone afterwards, also after a killed process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from da3_core.errors import InputError
from da3_core.storage.opened_folder import LinkError, opened
from da3_core.storage.staging import own_folder, remove_left_behind

MOST_TIMES_LARGER = 200  # than it was compressed; images of a camera become a few times larger
ALWAYS_ALLOWED = 1 << 30  # bytes, however small they were: empty images compress well
SPARED = 1 << 29  # bytes of the disk that stay free
_PREFIX, _CHUNK_BYTES = "da3-bag-", 1 << 20


class TooLargeError(InputError):
    """A file that is not damaged, and is not unpacked either."""


@contextmanager
def unpacking_folder() -> Iterator[Path]:
    """An empty folder among the temporary files, for this process alone; those of killed processes go."""
    place = Path(tempfile.gettempdir())
    with opened(place) as parent, own_folder(parent, _PREFIX, 0o700) as folder:
        yield place / folder.name


def remove_left_unpacked() -> None:
    """Remove the folders of killed processes, as far as that is possible."""
    with suppress(OSError, LinkError), opened(Path(tempfile.gettempdir())) as parent:
        remove_left_behind(parent, _PREFIX)


def unpacked(packed: BinaryIO, path: Path, target: Path) -> None:
    """Write a `.zstd` file without its compression.

    Args:
        packed: the file, open.
        path: its path in sentences.

    Raises:
        TooLargeError: it becomes larger than recordings do, or than the disk has room for; `target` is gone then.
    """
    from backports import zstd

    packed_bytes = os.fstat(packed.fileno()).st_size
    most = max(ALWAYS_ALLOWED, MOST_TIMES_LARGER * packed_bytes)
    room = max(0, shutil.disk_usage(target.parent).free - SPARED)
    written = 0
    with zstd.open(packed, "rb") as content, target.open("wb") as file:
        while data := content.read(_CHUNK_BYTES):
            written += len(data)
            if written > min(most, room):
                break
            file.write(data)
    if written <= min(most, room):
        return
    target.unlink()
    if room < most:
        raise TooLargeError(
            f"{path} is larger without its compression than {target.parent.parent} has room for "
            f"({room >> 20} MiB): unpack it with zstd where there is more, or set TMPDIR"
        )
    raise TooLargeError(
        f"{path} is {packed_bytes} bytes and more than {most >> 20} MiB without its compression, as hardly "
        "any recording is: unpack it with zstd if it is right"
    )
