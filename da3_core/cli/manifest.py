# SPDX-License-Identifier: Apache-2.0
"""What became of many recordings, on disk after every change: a batch that was ended goes on where it was."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from da3_core.errors import InputError
from da3_core.storage.staging import write_atomically

MANIFEST, LOCK = "manifest.json", ".lock"

RecordingKind = Literal["bag", "video", "images", "image", "colmap"]
State = Literal["waiting", "running", "done", "incomplete", "failed"]


@dataclass(frozen=True)
class Recording:
    """An input and its results.

    Attributes:
        input: the absolute path of a bag, a video, a folder of images or an image.
        output: the name of its results in the folder of the batch.
        state: `running` also where the batch was ended at it; `incomplete` has results, but not of all that is in it.
        tries: how often it was begun.
        seconds: that the last try took.
        error: of the last try, or None.
    """

    input: str
    kind: RecordingKind
    output: str
    state: State = "waiting"
    tries: int = 0
    seconds: float = 0.0
    error: str | None = None


class Manifest:
    """The recordings of a batch by their inputs, kept in `manifest.json` of its folder; for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier run left.

        Raises:
            InputError: it is no manifest.
        """
        self._path, self._lock = folder / MANIFEST, Lock()
        self.recordings: dict[str, Recording] = {}
        if self._path.exists():
            try:
                entries = json.loads(self._path.read_text(encoding="utf-8"))["recordings"]
                self.recordings = {each["input"]: Recording(**each) for each in entries}
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self._path} is no manifest of `da3 batch`: choose another folder") from error

    def add(self, inputs: Mapping[Path, RecordingKind]) -> None:
        """Take in what is not there yet, with names of its own."""
        taken = {each.output for each in self.recordings.values()}
        for path, kind in inputs.items():
            if str(path) not in self.recordings:
                name, count = path.stem or path.name, 1
                while name in taken or name in (MANIFEST, LOCK):
                    count += 1
                    name = f"{path.stem}_{count}"
                taken.add(name)
                self.recordings[str(path)] = Recording(str(path), kind, name)
        self._write()

    def note(self, recording: Recording, **changes: Any) -> Recording:
        """Change an entry, on disk too."""
        changed = replace(recording, **changes)
        with self._lock:
            self.recordings[recording.input] = changed
            self._write()
        return changed

    def following(self, retries: int, under_way: Container[str] = ()) -> Recording | None:
        """The next without results that may be tried once more, those that were not tried yet first.

        Args:
            retries: that are allowed; a try that was ended by force counts as none.
            under_way: inputs.
        """
        to_do = [
            each
            for each in self.recordings.values()
            if (each.state in ("waiting", "running") or (each.state == "failed" and each.tries <= retries))
            and each.input not in under_way
        ]
        return min(to_do, key=lambda each: each.tries, default=None)

    def _write(self) -> None:
        entries = [asdict(each) for each in self.recordings.values()]
        write_atomically(self._path, json.dumps({"recordings": entries}, indent=1).encode())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder of a batch, made, for this process alone.

    Raises:
        InputError: another one is at work in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("wb")
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): choose another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another batch is at work in {folder}: wait, or choose another folder") from None
        yield
