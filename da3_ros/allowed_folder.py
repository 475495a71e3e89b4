# SPDX-License-Identifier: Apache-2.0
"""Reading and writing below one folder and nowhere else, whatever name is asked for and whatever lies there already."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from da3_core.errors import InputError

LONGEST_NAME = 255  # bytes, of Linux
LONGEST_PATH = 3840  # bytes; 4096 of Linux less what exporters append


@dataclass(frozen=True)
class AllowedFolder:
    """The folder in which requests may name files and folders; it need not exist.

    Attributes:
        path: absolute, with symbolic links followed.
        parameter: the name of the parameter that chose it.
    """

    path: Path
    parameter: str

    @classmethod
    def of(cls, parameter: str, value: str) -> "AllowedFolder":
        """The folder that a parameter names.

        Raises:
            InputError: no absolute path, or the home folder of an unknown user.
        """
        try:
            path = Path(value).expanduser()
        except RuntimeError:
            path = Path()
        if not path.is_absolute():
            raise InputError(
                f"The parameter {parameter} is {value!r}; give an absolute path, or one in a home folder such as "
                "~/da3_exports."
            )
        return cls(path.resolve(), parameter)

    def folder(self, name: str) -> Path:
        """The folder of this name, with symbolic links followed; it need not exist.

        Raises:
            InputError: the name is impossible, or leads elsewhere, through a file or a folder of another user.
        """
        return self._confined_folder(self._named(name))

    def recording(self, name: str) -> Path:
        """What has this name: a file, or a folder of files; they may be read.

        Raises:
            InputError: there is none, the name is impossible, or it or a file in the folder leads elsewhere or belongs
                to another user.
        """
        path = self._confined(self._named(name))
        if not path.exists():
            raise InputError(f"There is no {name!r} in {self.path}, the parameter {self.parameter}; choose another.")
        try:
            parts = list(path.iterdir()) if path.is_dir() else [path]
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); choose another.") from error
        for part in parts:
            resolved = self._confined(part)
            if resolved.exists() and not resolved.is_file() and not resolved.is_dir():
                raise InputError(f"{part} is no ordinary file; choose another.")
        return path

    def write(self, folder: Path, write: Callable[[Path], object]) -> list[Path]:
        """Have `write` fill an empty folder, then move its files into `folder`: they appear complete or not at all.

        Raises:
            InputError: links in `folder` lead elsewhere, or some of the files could not be moved.
            OSError: no file was moved.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=self.path))
        try:
            write(staging)
            files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
            for file in files:
                self._confined_folder((folder / file).parent)
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

    def _named(self, name: str) -> Path:
        parts = name.split("/")
        if not name.isprintable() or len(os.fsencode(self.path / name)) > LONGEST_PATH:
            raise InputError("The path has control characters or is too long; give a shorter, printable one.")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
            raise InputError(f"A name in the path is longer than the {LONGEST_NAME} bytes allowed; give a shorter one.")
        if name.startswith(("/", "~")) or ".." in parts:
            raise InputError(
                f"The path is {name!r}; give one relative to the parameter {self.parameter} ({self.path}), "
                "without '..'."
            )
        return self.path / name

    def _confined(self, path: Path) -> Path:
        """`path` with links followed, if that is in the folder and everything on the way there is our own."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError):  # links that lead to each other
            resolved = Path("/")
        if not resolved.is_relative_to(self.path):
            raise InputError(f"{path} leads out of the parameter {self.parameter} ({self.path}); choose another.")
        for part in self._parts(resolved):
            if part.exists() and part.stat().st_uid != os.geteuid():
                raise InputError(f"{part} belongs to another user; choose another.")
        return resolved

    def _confined_folder(self, path: Path) -> Path:
        resolved = self._confined(path)
        for part in self._parts(resolved):
            if part.exists() and not part.is_dir():
                raise InputError(f"{part} is a file; choose another directory.")
        return resolved

    def _parts(self, path: Path) -> list[Path]:
        """`path` and the folders that it is in, as far as they are below this one."""
        return [part for part in (path, *path.parents) if part != self.path and part.is_relative_to(self.path)]
