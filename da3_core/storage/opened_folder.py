# SPDX-License-Identifier: Apache-2.0
"""Folders held open: what becomes of their names, or of links on the way to them, matters to nobody who holds them."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from types import TracebackType

from da3_core.errors import InputError

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody writes to must not hold us
_ON_THE_WAY = _FOLDER | getattr(os, "O_PATH", 0)  # which needs no permission to list it


class LinkError(InputError):
    """A link lies where a folder or a file was, or was to be made."""


class OpenedFolder:
    """A directory, open until `close`. Every method follows no link below it.

    Attributes:
        fd: its descriptor.
        name: in the folder that it was opened in.
        path: where it is, for libraries that want a path; links cannot lead it elsewhere.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name
        self.path = path_of(fd)

    @classmethod
    def at(cls, real: Path, *, make: bool = False, made: list[Path] | None = None) -> OpenedFolder:
        """Open an absolute path without links.

        Args:
            make: make what is missing.
            made: takes the paths of the folders that were made, the outermost first.

        Raises:
            LinkError: a part of it is a link by now.
            OSError: it is not there and was not to be made, or cannot be.
        """
        root = os.open(real.anchor, _ON_THE_WAY)
        try:
            return cls(_descend(root, real.relative_to(real.anchor), Path(real.anchor), make, made), real.name)
        finally:
            os.close(root)

    def folder(self, relative: PurePath, *, make: bool = False, made: list[Path] | None = None) -> OpenedFolder:
        """Open a folder below this one; see `at`."""
        return OpenedFolder(_descend(self.fd, relative, Path(), make, made), relative.name)

    def __enter__(self) -> OpenedFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Also give up the lock."""
        os.close(self.fd)

    def lock(self) -> bool:
        """Lock it against everybody else's `lock`, until `close` or the end of the process.

        Returns:
            Whether the file system knows locks of folders, which some network file systems do not.

        Raises:
            BlockingIOError: somebody else has locked it.
        """
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        return os.listdir(self.fd)

    def stat(self, relative: PurePath | str) -> os.stat_result | None:
        """Of an entry or of the link that it is; None where there is none, or a link on the way."""
        relative = PurePath(relative)
        with suppress(OSError, LinkError), self.folder(relative.parent) as parent:
            return os.stat(relative.name, dir_fd=parent.fd, follow_symlinks=False)
        return None

    def is_file(self, relative: PurePath | str) -> bool:
        """Whether there is an ordinary file, and no link to one."""
        found = self.stat(relative)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_folder(self, relative: PurePath | str) -> bool:
        """Whether there is a folder, and no link to one."""
        found = self.stat(relative)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_at(self, real: Path) -> bool:
        """Whether this is still the folder that an absolute path names, without any link."""
        with suppress(OSError, LinkError), OpenedFolder.at(real) as there:
            return os.path.samestat(os.fstat(self.fd), os.fstat(there.fd))
        return False

    def walk(self) -> Iterator[tuple[PurePath, int, str, os.stat_result]]:
        """Every entry below, those of a folder before itself: path, descriptor of its folder, name, what it is."""
        for place, folders, files, fd in os.fwalk(".", topdown=False, dir_fd=self.fd):
            for name in sorted([*folders, *files]):
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    yield PurePath(place, name), fd, name, found

    def files(self) -> list[PurePath]:
        """Paths of the ordinary files below, in order."""
        return sorted(path for path, _, _, found in self.walk() if stat.S_ISREG(found.st_mode))

    def open_file(self, relative: PurePath, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """The descriptor of a file below; it must be closed.

        Raises:
            LinkError: it or a folder on the way is a link.
            OSError: it cannot be opened so.
        """
        with self.folder(relative.parent) as parent:
            try:
                return os.open(relative.name, flags | _FILE, mode, dir_fd=parent.fd)
            except OSError:
                _refuse_link(parent.fd, relative.name, relative)
                raise

    def remove(self, name: str) -> None:
        """Delete an entry, as far as that is possible; a folder with everything in it."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.fd)
            return
        shutil.rmtree(self.path / name, ignore_errors=True)  # which follows no link


@contextmanager
def opened(path: Path, *, make: bool = False) -> Iterator[OpenedFolder]:
    """The folder that a path names now, links followed; of what had to be made, what stays empty goes again.

    Raises:
        OSError, LinkError: see `OpenedFolder.at`.
    """
    with removing_empty() as made, OpenedFolder.at(Path(os.path.realpath(path)), make=make, made=made) as folder:
        yield folder


@contextmanager
def removing_empty() -> Iterator[list[Path]]:
    """A list of absolute paths of folders, inner ones last; those that are empty in the end are removed."""
    made: list[Path] = []
    try:
        yield made
    finally:
        for folder in reversed(made):
            with suppress(OSError, LinkError), OpenedFolder.at(folder.parent) as parent:
                os.rmdir(folder.name, dir_fd=parent.fd)


def path_of(fd: int) -> Path:
    """A path of what a descriptor has open."""
    if sys.platform == "darwin":  # where nothing leads to an open folder: this is its name, which may change hands
        return Path(os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
    return Path(f"/proc/self/fd/{fd}")


def _descend(start: int, relative: PurePath, shown: Path, make: bool, made: list[Path] | None) -> int:
    """The descriptor of a folder below another one; `shown` is the path of the other one in sentences and in `made`."""
    parts = relative.parts
    if ".." in parts:
        raise LinkError(f"{relative} leads out of its folder: give a path without '..'")
    fd = os.open(".", _ON_THE_WAY if parts else _FOLDER, dir_fd=start)
    try:
        for number, name in enumerate(parts, 1):
            shown /= name
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                    if made is not None:
                        made.append(shown)
            try:
                inner = os.open(name, _FOLDER if number == len(parts) else _ON_THE_WAY, dir_fd=fd)
            except OSError:
                _refuse_link(fd, name, shown)
                raise
            os.close(fd)
            fd = inner
        return fd
    except BaseException:
        os.close(fd)
        raise


def _refuse_link(fd: int, name: str, shown: PurePath) -> None:
    with suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            raise LinkError(f"{shown} is a link, and may lead out of its folder: remove it, or choose another place")
