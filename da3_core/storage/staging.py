# SPDX-License-Identifier: Apache-2.0
"""The one way to write: aside, in a hidden folder on the same disk, then into place; whole, or not at all.

A killed process leaves its hidden folder behind. Its lock ended with it, so the next writer in the same place removes
it, and never one of a process that lives.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from secrets import token_hex

from da3_core.errors import InputError
from da3_core.storage.opened_folder import LinkError, OpenedFolder, opened

PREFIX = ".staging-"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder; what is in it when the `with` block ends moves to the same place in `folder`.

    Files of the same name are replaced, others stay. A block that raises changes nothing.

    Args:
        folder: made if it is not there, unless nothing gets into it.

    Raises:
        InputError: a link in `folder` leads out of it, or not all files could be moved.
        OSError: nothing can be written there; nothing has been changed.
    """
    with opened(folder, make=True) as target, own_folder(target) as staging:
        yield staging.path
        move_files(staging, target, folder)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` when the `with` block ends; see `staged`."""
    with staged(path.parent) as staging:
        yield staging / path.name


@contextmanager
def staged_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder that becomes `path` when the `with` block ends, even if it is empty.

    Args:
        replace: instead of what is there now.

    Raises:
        OSError: there is something already, or nothing can be written there; nothing has been changed.
    """
    with opened(path.parent, make=True) as parent, staged_within(parent, path.name, replace=replace) as staging:
        yield staging


@contextmanager
def staged_within(parent: OpenedFolder, name: str, *, replace: bool = False) -> Iterator[Path]:
    """As `staged_folder`."""
    with own_folder(parent) as staging:
        yield staging.path
        if replace:
            parent.remove(name)
        elif parent.stat(name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        os.rename(staging.name, name, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Nobody ever sees half of it. What was there is replaced, and so is its mode."""
    with opened(path.parent, make=True) as folder:
        write_into(folder, path.name, data, mode)


def write_into(folder: OpenedFolder, name: str, data: bytes, mode: int = 0o666) -> None:
    """As `write_atomically`."""
    with own_folder(folder) as staging:
        with open(staging.open_file(PurePath(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        os.replace(name, name, src_dir_fd=staging.fd, dst_dir_fd=folder.fd)


@contextmanager
def own_folder(parent: OpenedFolder, prefix: str = PREFIX, mode: int = 0o777) -> Iterator[OpenedFolder]:
    """A new folder of this process alone, which is gone afterwards; so are those of killed processes.

    Args:
        prefix: of its name, and of the names of those that are removed.
    """
    remove_left_behind(parent, prefix)
    with _make_own(parent, prefix, mode) as folder:
        try:
            yield folder
        finally:
            parent.remove(folder.name)


def remove_left_behind(parent: OpenedFolder, prefix: str = PREFIX) -> None:
    """Remove what killed processes left: folders of this user whose lock is free."""
    for name in parent.names():
        if name.startswith(prefix):
            with suppress(OSError, LinkError), parent.folder(PurePath(name)) as folder:
                if os.fstat(folder.fd).st_uid == os.geteuid() and folder.lock():
                    parent.remove(name)


def move_files(staging: OpenedFolder, target: OpenedFolder, shown: Path) -> list[PurePath]:
    """Move every file to the same place in another folder on the same disk.

    Args:
        shown: the path of `target` in sentences.

    Returns:
        Their paths, in order.

    Raises:
        InputError: a link in `target` leads out of it, or only some of the files could be moved.
        OSError: no file was moved.
    """
    files = staging.files()
    made: list[Path] = []
    parents: dict[PurePath, OpenedFolder] = {}
    moved = 0
    try:
        for parent in sorted({file.parent for file in files}):
            parents[parent] = _open_within(target, parent, shown, made)
        for file in files:
            if parents[file.parent].is_folder(file.name):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(shown / file))
        for file in files:
            os.replace(staging.path / file, file.name, dst_dir_fd=parents[file.parent].fd)
            moved += 1
    except OSError as error:
        if moved == 0:
            raise
        raise InputError(
            f"only {moved} of {len(files)} files could be put into {shown} ({error.strerror}): "
            "make room for the others, or choose another folder"
        ) from error
    finally:
        for opened_parent in parents.values():
            opened_parent.close()
        for folder in reversed(made):
            with suppress(OSError, LinkError), target.folder(folder.parent) as above:
                os.rmdir(folder.name, dir_fd=above.fd)  # which takes only empty ones
    return files


def _open_within(target: OpenedFolder, relative: PurePath, shown: Path, made: list[Path]) -> OpenedFolder:
    """A folder below another; links on the way are followed as long as they stay below."""
    base, real = (Path(os.path.realpath(path)) for path in (target.path, target.path / relative))
    if not real.is_relative_to(base):
        raise InputError(f"{shown / relative} leads out of {shown}: remove that link, or choose another folder")
    return target.folder(real.relative_to(base), make=True, made=made)


def _make_own(parent: OpenedFolder, prefix: str, mode: int) -> OpenedFolder:
    """A new folder with a lock on it; before it has that, another process may take it for a killed one's."""
    while True:
        name = f"{prefix}{token_hex(8)}"
        os.mkdir(name, mode, dir_fd=parent.fd)
        with suppress(FileNotFoundError, LinkError):
            folder = parent.folder(PurePath(name))
            with suppress(BlockingIOError):
                folder.lock()
                if parent.stat(name) is not None:
                    return folder
            folder.close()
