# SPDX-License-Identifier: Apache-2.0
"""Fast DDS leaves the shared memory of processes that were killed behind, 64 MB each with the shipped profile."""

import fcntl
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SEGMENT = re.compile(r"fast(?:dds|rtps)_[0-9a-f]{16}")  # of Kilted and of Jazzy


def remove_abandoned_segments(older_than_s: float = 10.0) -> int:
    """Give back the segments whose owner is gone; how many there were.

    A living owner holds the lock of its segment, as in Fast DDS's own `fastdds shm clean`; but it takes the lock a
    moment after it made the file, so young ones are left alone.
    """
    removed, latest = 0, time.time() - older_than_s
    for lock in SHARED_MEMORY.glob("fast*_el"):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        if not SEGMENT.fullmatch(segment.name):
            continue
        try:
            if lock.stat().st_mtime > latest:
                continue
            with lock.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                segment.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                removed += 1
        except OSError:  # alive, or another user's
            continue
    return removed


def remove_own_segments() -> None:
    """Give back those of this process, which is about to end without Fast DDS doing so."""
    if not (locks := Path("/proc/locks")).exists():
        return
    fields = [line.split() for line in locks.read_text().splitlines()]
    own = {int(field[5].rpartition(":")[2]) for field in fields if field[1] == "FLOCK" and field[4] == str(os.getpid())}
    for lock in SHARED_MEMORY.glob("fast*_el"):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        if SEGMENT.fullmatch(segment.name) and lock.stat().st_ino in own:
            segment.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
