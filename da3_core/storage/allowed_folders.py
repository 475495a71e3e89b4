# SPDX-License-Identifier: Apache-2.0
"""The folders in which those who call the service may read and write, whatever path they name."""

import os
from collections.abc import Iterable
from pathlib import Path

from da3_core.errors import InputError, OptionError

# Of what `sources.images` takes by extension; Pillow would hand other files to external programs.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


class NotAllowedError(OptionError):
    """A path outside the allowed folders; says nothing about what is there."""


class AllowedFolders:
    """Decides by real paths: links and `..` are followed before a path is compared.

    Attributes:
        roots: absolute, without links.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        """
        Raises:
            InputError: one of them is no folder.
        """
        self.roots = tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots))
        for root in self.roots:
            if not root.is_dir():
                raise OptionError("{root} is no folder: create it, or allow another with {allow_root}", root=root)

    def input_image(self, path: str) -> Path:
        """The real path of an image file.

        Raises:
            NotAllowedError: it is not in an allowed folder.
            InputError: it is no image file.
        """
        from PIL import Image

        real = self._real(path)
        try:
            if not real.is_file():
                raise InputError(f"cannot read the image {path} (no such file): give a readable image file")
            with Image.open(real, formats=IMAGE_FORMATS):
                pass
        except (OSError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or f"none of {', '.join(IMAGE_FORMATS)}"
            raise InputError(f"cannot read the image {path} ({reason}): give a readable image file") from error
        return real

    def output_folder(self, path: str) -> Path:
        """The real path of a folder, which need not exist.

        Raises:
            NotAllowedError: it is not in an allowed folder.
            InputError: there can be no folder of this name.
        """
        real = self._real(path)
        try:
            if real.is_dir() or not real.exists():
                return real
        except OSError as error:
            raise InputError(f"{path} cannot be an export folder ({error.strerror}): choose another") from error
        raise InputError(f"{path} is a file: choose another export folder")

    def _real(self, path: str) -> Path:
        if not path or not path.isprintable():
            raise NotAllowedError(
                "the path {path!r} is empty or has control characters: give a printable one", path=path
            )
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self.roots):
            raise NotAllowedError(
                "{path} is outside the folders that this backend may use ({allowed}): move it there, or start the "
                "backend with {allow_root}",
                path=path,
                allowed=", ".join(map(str, self.roots)),
            )
        return real
