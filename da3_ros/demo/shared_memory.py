# SPDX-License-Identifier: Apache-2.0
"""Fast DDS leaves the shared memory of processes that were killed behind, 64 MB each with the shipped profile."""

import fcntl
import re
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SEGMENT = re.compile(r"fast(?:dds|rtps)_[0-9a-f]{16}")  # of Kilted and of Jazzy


def remove_abandoned_segments() -> int:
    """Give back the segments whose owner is gone; how many there were.

    A living owner holds the lock of its segment, as in Fast DDS's own `fastdds shm clean`.
    """
    removed = 0
    for lock in SHARED_MEMORY.glob("fast*_el"):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        if not SEGMENT.fullmatch(segment.name):
            continue
        try:
            with lock.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                segment.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                removed += 1
        except OSError:  # alive, or another user's
            continue
    return removed
