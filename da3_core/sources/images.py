# SPDX-License-Identifier: Apache-2.0
"""Image files as input: which files count as images, in which order, and whether they can be opened."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from da3_core.errors import InputError
from da3_core.formats.image_files import TooManyPixelsError, open_image_file
from da3_core.sources import SceneImages
from da3_core.sources.times import stamps_of_images

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tiff", "tif")


def is_image(path: Path, extensions: Iterable[str] = IMAGE_EXTENSIONS) -> bool:
    """Whether the name says that it is an image; hidden files are not."""
    return path.suffix[1:].lower() in extensions and not path.name.startswith(".")


def parse_extensions(text: str) -> tuple[str, ...]:
    """`"png, .JPG"` -> `("png", "jpg")`.

    Raises:
        InputError: an extension that no image reader here knows.
    """
    extensions = tuple(part.strip().removeprefix(".").lower() for part in text.split(",") if part.strip())
    unknown = [extension for extension in extensions if extension not in IMAGE_EXTENSIONS]
    if unknown or not extensions:
        raise InputError(f"image extensions {text!r} are not understood: list some of {','.join(IMAGE_EXTENSIONS)}")
    return extensions


def natural_order(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key that puts `2.png` before `10.png`, and numbers before letters."""
    parts = re.findall(r"\d+|\D+", path.stem.lower())
    numbers_and_words = [(False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts]
    return numbers_and_words, path.name


def find_images(folder: Path, extensions: Iterable[str] = IMAGE_EXTENSIONS) -> tuple[Path, ...]:
    """The image files directly in `folder`, in natural order.

    Raises:
        InputError: no folder, or no images in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of images")
    images = sorted(
        (path for path in folder.iterdir() if is_image(path, extensions) and path.is_file()), key=natural_order
    )
    if not images:
        raise InputError(f"no images in {folder}: expected files ending in {', '.join(extensions)}")
    return tuple(images)


@dataclass(frozen=True)
class ImageFiles:
    """Image files as a source.

    Attributes:
        path: the file or folder that the user named.
        files: the images, each of which could be opened.
    """

    path: Path
    files: tuple[Path, ...]
    has_cameras: bool = False

    @property
    def views(self) -> int:
        return len(self.files)

    def read(self, make_folder: Callable[[], Path], advance: Callable[[int], object]) -> SceneImages:
        advance(len(self.files))
        return SceneImages(self.files, stamps_ns=stamps_of_images(self.files))


def open_image(path: Path) -> ImageFiles:
    """One image.

    Raises:
        InputError: it is missing or is no image.
    """
    check_headers([path])
    return ImageFiles(path, (path,))


def open_folder(folder: Path, extensions: Iterable[str] = IMAGE_EXTENSIONS) -> ImageFiles:
    """The images directly in a folder, in natural order.

    Raises:
        InputError: no folder, no images in it, or a file that only pretends to be one.
    """
    files = find_images(folder, extensions)
    check_headers(files)
    return ImageFiles(folder, files)


def check_headers(paths: Iterable[Path]) -> None:
    """Name a bad file before a model is loaded. Damage behind the header shows when the image is decoded.

    Raises:
        InputError: a file is missing or is no image.
    """
    for path in paths:
        try:
            with open_image_file(path):
                pass
        except TooManyPixelsError as error:
            raise InputError(
                f"the image {path} has too many pixels ({error.strerror}): make it smaller first"
            ) from error
        except OSError as error:
            reason = getattr(error, "strerror", None) or "not an image of a known format"
            raise InputError(f"cannot read the image {path} ({reason.lower()}): give a readable image file") from error
