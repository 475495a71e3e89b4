# SPDX-License-Identifier: Apache-2.0
"""The export folder: what may be deleted, who is asked, and how results get into it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from da3_core.errors import InputError, OptionError

MARKER = ".da3-export"


@dataclass
class ExportFolder:
    """A folder about whose contents was decided; they stay untouched until something is to be written.

    Attributes:
        path: the folder, absolute.
        empty_first: delete what is in it before the first file is written.
        ours: it is new, empty or marked, so that a later run may empty it.
    """

    path: Path
    empty_first: bool
    ours: bool

    def prepare(self) -> Path:
        """Create or empty the folder at the first call, and return it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._settle(keep=None)
        return self.path

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder; what is in it when the `with` block ends moves to the same place in the export folder.

        A block that raises changes nothing.

        Raises:
            InputError: the folder cannot be made, or a link in it leads out of it.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=self.path))
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}): choose another folder") from error
        try:
            yield staging
            self._settle(keep=staging)
            files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
            for parent in {(self.path / file).parent for file in files}:
                if not parent.resolve().is_relative_to(self.path.resolve()):
                    raise InputError(f"{parent} leads out of the export folder: remove that link, or choose another")
            for file in files:
                (self.path / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / file, self.path / file)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            with suppress(OSError):
                for folder in missing:
                    folder.rmdir()  # which only takes empty ones

    def _settle(self, keep: Path | None) -> None:
        """Empty the folder, except for `keep`, if that is to be and was not yet; mark it if it is ours."""
        if self.empty_first:
            for child in self.path.iterdir():
                if child != keep:
                    shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
            self.empty_first = False
        if self.ours:
            (self.path / MARKER).write_text("da3 wrote this folder and may empty it when asked to.\n")


def choose_export_folder(
    path: Path,
    inputs: Iterable[Path],
    *,
    auto_cleanup: bool,
    force_cleanup: bool,
    overwrite: bool,
    ask: Callable[[Path], object],
) -> ExportFolder:
    """Decide what happens to an existing folder.

    Args:
        path: where results go.
        inputs: files and folders that must survive.
        auto_cleanup: delete what is in the folder, if da3 created it.
        force_cleanup: delete what is in the folder, whoever created it.
        overwrite: delete nothing.
        ask: called before the folder is to be emptied without one of these three; it raises unless that is wanted.

    Raises:
        InputError: the folder cannot be used, or emptying it could destroy what is not ours.
    """
    folder = path.absolute()
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OptionError(
            "cannot write to {path}: {existing} is no writable folder; give another {export_dir}",
            path=path,
            existing=existing,
        )
    if not folder.exists() or not any(folder.iterdir()):
        return ExportFolder(folder, empty_first=False, ours=True)
    ours = (folder / MARKER).exists()
    if overwrite:
        return ExportFolder(folder, empty_first=False, ours=ours)
    _refuse_dangerous(folder, inputs)
    if not ours and not force_cleanup:
        raise OptionError(
            "the export folder {path} holds files that da3 did not write: give another {export_dir}, keep them with "
            "{overwrite}, or delete them with {force_cleanup}",
            path=path,
        )
    if not (auto_cleanup or force_cleanup):
        ask(path)
    return ExportFolder(folder, empty_first=True, ours=True)


def _refuse_dangerous(folder: Path, inputs: Iterable[Path]) -> None:
    """Never empty the root, the home folder, the current folder, an input, or a folder above one of them."""
    target = folder.resolve()
    kept = {"your home folder": Path.home(), "the current folder": Path.cwd()}
    kept |= {f"the input {path}": path for path in inputs}
    for name, path in kept.items():
        if path.resolve().is_relative_to(target):
            raise OptionError(
                "emptying {folder} would delete {kept}: give another {export_dir}, or use {overwrite}",
                folder=folder,
                kept=name,
            )
