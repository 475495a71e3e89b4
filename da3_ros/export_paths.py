# SPDX-License-Identifier: Apache-2.0
"""Writing below one folder and nowhere else, whatever name is asked for and whatever lies there already."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from da3_core.errors import InputError

LONGEST_NAME = 255  # bytes, of Linux
LONGEST_PATH = 3840  # bytes; 4096 of Linux less what exporters append


def export_root(parameter: str) -> Path:
    """The folder that the parameter export.root names; it need not exist.

    Raises:
        InputError: no absolute path, or the home folder of an unknown user.
    """
    try:
        root = Path(parameter).expanduser()
    except RuntimeError:
        root = Path()
    if not root.is_absolute():
        raise InputError(
            f"The parameter export.root is {parameter!r}; give an absolute path, or one in a home folder such as "
            "~/da3_exports."
        )
    return root.resolve()


def folder_inside(root: Path, directory: str) -> Path:
    """The folder of this name below `root`, with symbolic links followed; it need not exist.

    Raises:
        InputError: the name is impossible, leads out of `root`, or through a folder of another user.
    """
    parts = directory.split("/")
    if not directory.isprintable() or len(os.fsencode(root / directory)) > LONGEST_PATH:
        raise InputError("The directory has control characters or is too long; give a shorter, printable name.")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise InputError(
            f"A name in the directory is longer than the {LONGEST_NAME} bytes allowed; give a shorter one."
        )
    if directory.startswith(("/", "~")) or ".." in parts:
        raise InputError(
            f"The directory is {directory!r}; give a path relative to the parameter export.root ({root}), without '..'."
        )
    return _confined(root, root / directory)


def write_inside(root: Path, folder: Path, write: Callable[[Path], object]) -> list[Path]:
    """Have `write` fill an empty folder, then move its files into `folder`: they appear complete or not at all.

    Raises:
        InputError: links in `folder` lead out of `root`, or some of the files could not be moved.
        OSError: no file was moved.
    """
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export-", dir=root))
    try:
        write(staging)
        files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
        for file in files:
            _confined(root, (folder / file).parent)
        for moved, file in enumerate(files):
            try:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / file, folder / file)
            except OSError as error:
                if moved == 0:
                    raise
                raise InputError(
                    f"Only {moved} of {len(files)} files could be put into {folder} ({error.strerror}); "
                    "make room for the others, or choose another directory."
                ) from error
        return [folder / file for file in files]
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _confined(root: Path, folder: Path) -> Path:
    """`folder` with links followed, if that is in `root` and every existing folder below `root` is our own."""
    try:
        resolved = folder.resolve()
    except (OSError, RuntimeError):  # links that lead to each other
        resolved = Path("/")
    if not resolved.is_relative_to(root):
        raise InputError(f"The folder {folder} leads out of the parameter export.root ({root}); choose another.")
    for part in (resolved, *resolved.parents):
        if part == root:
            break
        if part.exists() and not part.is_dir():
            raise InputError(f"{part} is a file; choose another directory.")
        if part.exists() and part.stat().st_uid != os.geteuid():
            raise InputError(f"The folder {part} belongs to another user; choose another directory.")
    return resolved
