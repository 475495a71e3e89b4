# SPDX-License-Identifier: Apache-2.0
"""The one way to confine: folders below which others may have files read and written, whatever path they name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from da3_core.errors import InputError, OptionError
from da3_core.formats.image_files import open_image_file
from da3_core.storage.export_folder import ExportFolder
from da3_core.storage.opened_folder import LinkError, OpenedFolder, removing_empty

# Of what `sources.images` takes by extension; Pillow would hand other files to external programs.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
LONGEST_NAME = 255  # bytes, of Linux
LONGEST_PATH = 3840  # bytes; 4096 of Linux less what exporters append


class NotAllowedError(OptionError):
    """A path outside the allowed folders; says nothing about what is there."""


@dataclass(frozen=True)
class AllowedFolders:
    """Decides by real paths: links and `..` are followed before a path is compared, and no link when it is opened.

    Attributes:
        roots: absolute, without links; they need not exist.
        called: what they are together, in sentences.
        remedy: what to do about a path outside, in sentences of `OptionError`.
        is_relative: paths are relative to the only root and have no `..`; else they are as this process sees them.
        only_own: everything below a root must be this user's.
        no_hidden: nothing below a root may have a name that begins with a dot.
    """

    roots: tuple[Path, ...]
    called: str
    remedy: str
    is_relative: bool = False
    only_own: bool = False
    no_hidden: bool = False

    @classmethod
    def of_backend(cls, roots: Iterable[Path]) -> AllowedFolders:
        """
        Raises:
            InputError: one of them is no folder.
        """
        real = tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots))
        for root in real:
            if not root.is_dir():
                raise OptionError("{root} is no folder: create it, or allow another with {allow_root}", root=root)
        remedy = "move it there, or start the backend with {allow_root}"
        return cls(real, "the folders that this backend may use", remedy)

    @classmethod
    def of_gallery(cls, root: Path) -> AllowedFolders:
        return cls((Path(os.path.realpath(root)),), "the gallery", "choose another name", no_hidden=True)

    @classmethod
    def of_parameter(cls, parameter: str, value: str) -> AllowedFolders:
        """The folder that a parameter of the node names; it need not exist.

        Raises:
            InputError: no absolute path, or the home folder of an unknown user.
        """
        try:
            path = Path(value).expanduser()
        except RuntimeError:
            path = Path()
        if not path.is_absolute():
            raise InputError(
                f"the parameter {parameter} is {value!r}: give an absolute path, or one in a home folder such as "
                "~/da3_exports"
            )
        roots = (Path(os.path.realpath(path)),)
        return cls(roots, f"the parameter {parameter}", "choose another", is_relative=True, only_own=True)

    @property
    def root(self) -> Path:
        """The first one."""
        return self.roots[0]

    def real(self, path: str | Path) -> Path:
        """What a path leads to, absolute and without links; it need not be there.

        Raises:
            NotAllowedError: it is impossible or not in an allowed folder.
        """
        text = os.fspath(path)
        if not text.isprintable() or not (text or self.is_relative) or len(os.fsencode(text)) > LONGEST_PATH:
            raise NotAllowedError("the path is empty, too long or has control characters: give a printable one")
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in text.split("/")):
            raise NotAllowedError(
                "a name in the path is longer than the {most} bytes allowed: give a shorter one", most=LONGEST_NAME
            )
        if not self.is_relative:
            return self.confined(Path(text))
        if text.startswith(("/", "~")) or ".." in text.split("/"):
            raise NotAllowedError(
                "the path is {path!r}: give one relative to {called} ({root}), without '..'",
                path=text,
                called=self.called,
                root=self.root,
            )
        return self.confined(self.root / text)

    def folder(self, path: str | Path) -> Path:
        """As `real`, of a folder, which need not exist.

        Raises:
            NotAllowedError: see `real`.
            InputError: there can be no folder of this name.
        """
        real = self.real(path)
        for part in (real, *real.parents):
            try:
                if part.exists() and not part.is_dir():
                    raise InputError(f"{part} is a file: choose another folder")
            except OSError as error:
                raise InputError(f"{path} cannot be a folder ({error.strerror}): choose another") from error
        return real

    def export_folder(self, path: str | Path) -> ExportFolder:
        """A folder whose files are replaced by those of the same names; others stay. Raises as `folder`."""
        real = self.folder(path)
        return ExportFolder(real, real, ours=False, overwrite=True)

    @contextmanager
    def opened(self, path: Path) -> Iterator[OpenedFolder]:
        """The folder of an absolute path, made if it is not there, unless nothing gets into it.

        Raises:
            NotAllowedError: it is not in an allowed folder, or became a link just now.
            OSError: it cannot be made or opened.
        """
        real = self.confined(path)
        with removing_empty() as made:
            try:
                folder = OpenedFolder.at(real, make=True, made=made)
            except LinkError as error:
                raise self._outside(path) from error
            with folder:
                yield folder

    def open_file(self, path: Path) -> BinaryIO:
        """An ordinary file of an absolute path, to read.

        Raises:
            NotAllowedError: it is not in an allowed folder, or became a link just now.
            OSError: there is none, or it cannot be read.
        """
        real = self.confined(path)
        try:
            with OpenedFolder.at(real.parent) as parent:
                file = os.fdopen(parent.open_file(Path(real.name)), "rb")
        except LinkError as error:
            raise self._outside(path) from error
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise FileNotFoundError(f"{path} is no ordinary file")
        if self.only_own and found.st_uid != os.geteuid():
            file.close()
            raise self._of_another(path)
        return file

    def input_image(self, path: str) -> AllowedFile:
        """An image file, with links followed now and never again.

        Raises:
            NotAllowedError: it is not in an allowed folder.
            InputError: it is no image file.
        """
        real = self.real(path)
        try:
            if not real.is_file():
                raise InputError(f"cannot read the image {path} (no such file): give a readable image file")
            file = AllowedFile(real, self)
            with open_image_file(file, IMAGE_FORMATS):
                pass
        except OSError as error:
            reason = getattr(error, "strerror", None) or f"none of {', '.join(IMAGE_FORMATS)}"
            raise InputError(f"cannot read the image {path} ({reason}): give a readable image file") from error
        return file

    def bag(self, path: str) -> Path:
        """The real path of a bag: a file, or a folder of files; they may be read.

        Raises:
            NotAllowedError: it, or a file in the folder, is not in an allowed folder.
            InputError: there is none, or it or a file in the folder is no ordinary file or another user's.
        """
        real = self.real(path)
        if not real.exists():
            raise InputError(f"there is no {path!r} in {self.root}, {self.called}: choose another")
        try:
            parts = list(real.iterdir()) if real.is_dir() else [real]
        except OSError as error:
            raise InputError(f"{real} cannot be read ({error.strerror}): choose another") from error
        for part in parts:
            found = self.confined(part)
            if found.exists() and not found.is_file() and not found.is_dir():
                raise InputError(f"{part} is no ordinary file: choose another")
        return real

    def confined(self, path: Path) -> Path:
        """A path from this process's own view, without links.

        Raises:
            NotAllowedError: it is not in an allowed folder, or hidden.
            InputError: something on the way belongs to another user.
        """
        real = Path(os.path.realpath(path))
        root = next((root for root in self.roots if real.is_relative_to(root)), None)
        if root is None:
            raise self._outside(path)
        below = real.relative_to(root)
        for part in [root / part for part in (below, *below.parents)[:-1]]:
            is_hidden = part.name.startswith(".") and self.no_hidden
            if is_hidden or os.path.islink(part):  # of links that lead to each other
                raise self._outside(path)
            if self.only_own and part.exists() and part.stat().st_uid != os.geteuid():
                raise self._of_another(part)
        return real

    @staticmethod
    def _of_another(path: Path) -> InputError:
        return InputError(f"{path} belongs to another user: choose another")

    def _outside(self, path: str | Path) -> NotAllowedError:
        roots = ", ".join(map(str, self.roots))
        sentence = f"{{path}} leads out of {{called}} ({{roots}}): {self.remedy}"
        return NotAllowedError(sentence, path=path, called=self.called, roots=roots)


@dataclass(frozen=True)
class AllowedFile(os.PathLike[str]):
    """A file that is opened through its folders each time, so that a link that takes its place leads nowhere.

    Attributes:
        path: absolute, without links when it was looked at.
    """

    path: Path
    folders: AllowedFolders

    def __fspath__(self) -> str:
        return str(self.path)

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Raises as `AllowedFolders.open_file`."""
        return self.folders.open_file(self.path)
