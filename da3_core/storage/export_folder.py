# SPDX-License-Identifier: Apache-2.0
"""The export folder: what may be deleted, who is asked, how results get into it, and one run at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from da3_core.errors import InputError, OptionError
from da3_core.storage.opened_folder import LinkError, OpenedFolder, removing_empty
from da3_core.storage.staging import PREFIX, move_files, own_folder, write_into

MARKER = ".da3-export"
_MARK = b"da3 wrote this folder and may empty it when asked to.\n"
_MOST_LINKS = 40  # in a chain, as in Linux


@dataclass
class ExportFolder:
    """A folder about whose contents was decided; they stay untouched until something is to be written.

    Attributes:
        path: the folder, absolute.
        real: likewise, as it was at the decision, without links.
        ours: it is new, empty or marked, so that a later run may empty it.
        overwrite: results may replace what is there, whoever put it there and whenever.
        doomed: what was there at the decision, by path within the folder, and is deleted before the first file is
            written. What has come or changed since then stays.
        unchanged: files as they were at the decision; if one is another file by now, nothing is written.
    """

    path: Path
    real: Path
    ours: bool
    overwrite: bool = False
    doomed: Mapping[PurePath, tuple[int, ...]] = field(default_factory=dict)
    unchanged: Mapping[Path, tuple[int, int] | None] = field(default_factory=dict)
    _opened: OpenedFolder | None = field(default=None, repr=False)
    _held: ExitStack | None = field(default=None, repr=False)
    _coming: OpenedFolder | None = field(default=None, repr=False)

    @property
    def empty_first(self) -> bool:
        """Whether something is deleted before the first file is written."""
        return bool(self.doomed)

    @contextmanager
    def held(self) -> Iterator[OpenedFolder]:
        """The folder, made, open and closed to other runs; if it had to be made and stays empty, it goes again.

        Raises:
            InputError: it cannot be made, a part of its path has become a link, or another run is at work in it.
        """
        if self._opened is not None:
            yield self._opened
            return
        with removing_empty() as made, self._open_and_lock(made) as folder, ExitStack() as stack:
            self._opened, self._held = folder, stack
            try:
                yield folder
            finally:
                self._opened = self._held = self._coming = None

    def coming(self) -> Path:
        """Within `held`, a folder whose files move to the same place in the export folder together with the results.

        It is gone, with them, where there are no results.
        """
        assert self._opened is not None
        assert self._held is not None
        if self._coming is None:
            with self._failures_in_words():
                self._coming = self._held.enter_context(own_folder(self._opened))
        return self._coming.path

    def final(self, path: Path) -> Path:
        """Where a file will be that is now in `coming`; of others, where it is."""
        is_coming = self._coming is not None and path.is_relative_to(self._coming.path)
        return self.path / path.relative_to(self.coming()) if is_coming else path

    def made(self) -> Path:
        """Create the folder, and return it; `prepare` empties it."""
        with self.held() as folder, self._failures_in_words():
            if self.ours and not folder.is_file(MARKER):
                write_into(folder, MARKER, _MARK)
        return self.path

    def prepare(self) -> Path:
        """Create or empty the folder at the first call, and return it."""
        with self.held() as folder:
            self._check_place(folder)
            self._settle(folder)
        return self.path

    def mark(self) -> None:
        """Say that a later run may empty it."""
        with self.held() as folder, self._failures_in_words():
            write_into(folder, MARKER, _MARK)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder, or `coming`; what is in it when the `with` block ends moves to the same place in the export
        folder.

        A block that raises changes nothing.

        Raises:
            InputError: as `held`; the folder was replaced meanwhile; files of the same names came into it meanwhile; a
                link in it leads out of it.
        """
        with self.held() as folder, ExitStack() as stack:
            with self._failures_in_words():
                staging = self._coming or stack.enter_context(own_folder(folder))
            yield staging.path
            self._check_place(folder)
            self._check_inputs()
            self._check_names(folder, staging.files())
            self._settle(folder)
            with self._failures_in_words():
                move_files(staging, folder, self.path)

    def write(self, write: Callable[[Path], object]) -> list[Path]:
        """Have `write` fill an empty folder, see `staging`; the paths of its files in the export folder, in order."""
        with self.staging() as staging:
            write(staging)
            files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
        return [self.path / file for file in files]

    def _open_and_lock(self, made: list[Path]) -> OpenedFolder:
        while True:
            with self._failures_in_words():
                folder = OpenedFolder.at(self.real, make=True, made=made)
            try:
                folder.lock()
            except BlockingIOError:
                folder.close()
                raise InputError(
                    f"another run is writing into {self.path}: wait until it has ended, or choose another folder"
                ) from None
            if folder.is_at(self.real):  # and was not removed by the run that had it before
                return folder
            folder.close()

    def _check_place(self, folder: OpenedFolder) -> None:
        if not folder.is_at(self.real):
            raise InputError(f"{self.path} was moved or replaced meanwhile, so nothing was written: start again")

    def _check_inputs(self) -> None:
        for path, file in self.unchanged.items():
            if file is None or _file_at(path) != file:
                raise InputError(f"{path} was moved or replaced meanwhile, so nothing was written: start again")

    def _check_names(self, folder: OpenedFolder, files: Iterable[PurePath]) -> None:
        if self.overwrite:
            return
        for file in files:
            found = folder.stat(file)
            if found is not None and self.doomed.get(file) != _identity(found):
                raise InputError(
                    f"{self.path / file} came into the export folder meanwhile, so nothing was written: "
                    "choose another folder"
                )

    def _settle(self, folder: OpenedFolder) -> None:
        """Delete what is doomed; mark the folder if it is ours."""
        with self._failures_in_words():
            for path, fd, name, found in folder.walk() if self.doomed else ():
                if self.doomed.get(path) == _identity(found):
                    if not stat.S_ISDIR(found.st_mode):
                        os.unlink(name, dir_fd=fd)
                        continue
                    with suppress(OSError):  # not empty: something has come
                        os.rmdir(name, dir_fd=fd)
            self.doomed = {}
            if self.ours and not folder.is_file(MARKER):
                write_into(folder, MARKER, _MARK)

    @contextmanager
    def _failures_in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}): choose another folder") from error


def choose_export_folder(
    path: Path,
    inputs: Iterable[Path],
    *,
    auto_cleanup: bool,
    force_cleanup: bool,
    overwrite: bool,
    ask: Callable[[Path], object],
    never_emptied: Iterable[Path] = (),
    unchanged: Iterable[Path] = (),
) -> ExportFolder:
    """Decide what happens to an existing folder.

    Args:
        path: where results go.
        inputs: files and folders that must survive, and what links in these folders lead to.
        auto_cleanup: delete what is in the folder, if da3 created it.
        force_cleanup: delete what is in the folder, whoever created it.
        overwrite: delete nothing.
        ask: called before the folder is to be emptied without one of these three; it raises unless that is wanted.
        never_emptied: other folders that must survive.
        unchanged: files without which nothing is to be written; absolute, without links.

    Raises:
        InputError: the folder cannot be used, or emptying it could destroy what is not ours.
    """
    pinned = {file: _file_at(file) for file in unchanged}
    folder = path.absolute()
    real = _real(folder)
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OptionError(
            "cannot write to {path}: {existing} is no writable folder; give another {export_dir}",
            path=path,
            existing=existing,
        )
    if not folder.exists():
        return ExportFolder(folder, real, ours=True, overwrite=overwrite, unchanged=pinned)
    with OpenedFolder.at(real) as there:
        is_empty = all(name.startswith(PREFIX) for name in there.names())  # but for what killed runs left
        ours = is_empty or there.is_file(MARKER)
        if overwrite or is_empty:
            return ExportFolder(folder, real, ours, overwrite, unchanged=pinned)
        _refuse_dangerous(folder, inputs, never_emptied)
        if not ours and not force_cleanup:
            raise OptionError(
                "the export folder {path} holds files that da3 did not write: give another {export_dir}, keep them "
                "with {overwrite}, or delete them with {force_cleanup}",
                path=path,
            )
        doomed = {
            file: _identity(found)
            for file, _, _, found in there.walk()
            if file != PurePath(MARKER) and not file.parts[0].startswith(PREFIX)
        }
    if not (auto_cleanup or force_cleanup):
        ask(path)
    return ExportFolder(folder, real, ours=True, doomed=doomed, unchanged=pinned)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """Another one for another file, and for a file that was written to."""
    if stat.S_ISDIR(found.st_mode):
        return found.st_dev, found.st_ino
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _file_at(real: Path) -> tuple[int, int] | None:
    """Which file has an absolute path without links; None if there is none, or a link by now."""
    with suppress(OSError, LinkError), OpenedFolder.at(real.parent) as parent:
        found = parent.stat(real.name)
        if found is not None and stat.S_ISREG(found.st_mode):
            return found.st_dev, found.st_ino
    return None


def _refuse_dangerous(folder: Path, inputs: Iterable[Path], never_emptied: Iterable[Path]) -> None:
    """Never empty the root, the home folder, the current folder, an input, or a folder above one of them."""
    target = _real(folder)
    kept = [("your home folder", _real(Path.home())), ("the current folder", _real(Path.cwd()))]
    kept += [(f"the folder {path}", _real(path)) for path in never_emptied]
    kept += [(f"the input {path}", place) for given in inputs for path, place in _reached(given)]
    for name, path in kept:
        if path.is_relative_to(target):
            raise OptionError(
                "emptying {folder} would delete {kept}: give another {export_dir}, or use {overwrite}",
                folder=folder,
                kept=name,
            )


def _reached(given: Path) -> Iterator[tuple[Path, Path]]:
    """An input and every link below it, each with the places that it leads through and to, without links."""
    waiting, known = [given], set()
    while waiting:
        path = place = waiting.pop()
        for _ in range(_MOST_LINKS):
            place = _real(place.parent) / place.name
            yield path, place
            if not os.path.islink(place):
                break
            place = place.parent / place.readlink()
        real = _real(path)
        if real in known:
            continue
        known.add(real)
        for folder, folders, files in os.walk(real):
            waiting += [each for name in (*folders, *files) if os.path.islink(each := Path(folder, name))]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
