# SPDX-License-Identifier: Apache-2.0
"""The export folder: what may be deleted, who is asked, and when it happens."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer

from da3_core.errors import InputError

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
        if self.empty_first:
            for child in self.path.iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
            self.empty_first = False
        if self.ours:
            (self.path / MARKER).write_text("da3 wrote this folder and may empty it when asked to.\n")
        return self.path


def choose_export_folder(
    path: Path, inputs: Iterable[Path], *, auto_cleanup: bool, force_cleanup: bool, overwrite: bool
) -> ExportFolder:
    """Decide what happens to an existing folder; a person is asked only at a terminal.

    Args:
        path: where results go.
        inputs: files and folders that must survive.
        auto_cleanup: delete what is in the folder, if da3 created it.
        force_cleanup: delete what is in the folder, whoever created it.
        overwrite: delete nothing.

    Raises:
        InputError: the folder cannot be used, or emptying it could destroy what is not ours.
        typer.Exit: the person declined (code 0).
    """
    folder = path.absolute()
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write to {path}: {existing} is no writable folder; give another --export-dir")
    if not folder.exists() or not any(folder.iterdir()):
        return ExportFolder(folder, empty_first=False, ours=True)
    ours = (folder / MARKER).exists()
    if overwrite:
        return ExportFolder(folder, empty_first=False, ours=ours)
    _refuse_dangerous(folder, inputs)
    if not ours and not force_cleanup:
        raise InputError(
            f"the export folder {path} holds files that da3 did not write: "
            "give another --export-dir, keep them with --overwrite, or delete them with --force-cleanup"
        )
    if not (auto_cleanup or force_cleanup):
        _ask(path)
    return ExportFolder(folder, empty_first=True, ours=True)


def _refuse_dangerous(folder: Path, inputs: Iterable[Path]) -> None:
    """Never empty the root, the home folder, the current folder, an input, or a folder above one of them."""
    target = folder.resolve()
    kept = {"your home folder": Path.home(), "the current folder": Path.cwd()}
    kept |= {f"the input {path}": path for path in inputs}
    for name, path in kept.items():
        if path.resolve().is_relative_to(target):
            raise InputError(f"emptying {folder} would delete {name}: give another --export-dir, or use --overwrite")


def _ask(path: Path) -> None:
    if not sys.stdin.isatty():
        raise InputError(
            f"the export folder {path} is not empty: add --auto-cleanup to empty it, or --overwrite to keep other files"
        )
    typer.echo(f"Delete everything in {path}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("cancelled: nothing was deleted or computed", err=True)
        raise typer.Exit(0)
