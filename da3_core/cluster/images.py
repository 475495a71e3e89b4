# SPDX-License-Identifier: Apache-2.0
"""How the images of a window get to a worker: by their places, where it can read them there, else compressed.

Places are small and cost the driver nothing. What a place holds is compared with what the driver saw, so a worker on
another machine never takes another file of the same name.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TypeAlias

import cv2
import numpy as np

from da3_core.bag.pixels import PixelReader, RecordedPixels
from da3_core.errors import InputError
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder
from da3_core.stream.frame import Frame

PNG_EFFORT = 1  # of 9; more of it costs the driver more than it saves the network


@dataclass(frozen=True)
class FilePlace:
    """A file with its size and the time of its last change."""

    path: Path
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FilePlace:
        found = path.stat()
        return cls(path.absolute(), found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class BagPlace:
    """An image of a bag with the checksum of its pixels."""

    pixels: RecordedPixels
    checksum: int


@dataclass(frozen=True)
class Content:
    """What travels beside the call: the bytes of a file, or pixels; `name` tells it from others of this run."""

    name: FilePlace | int

    @property
    def suffix(self) -> str:
        """Of the file; empty for pixels."""
        return self.name.path.suffix if isinstance(self.name, FilePlace) else ""


Sent: TypeAlias = "FilePlace | BagPlace | Content"


class Unreachable(Exception):
    """A worker cannot read an image at its place."""


def place_of(image: Path | Frame) -> FilePlace | BagPlace | None:
    """None where only the content will do."""
    if isinstance(image, Path):
        return FilePlace.of(image)
    if isinstance(image.origin, RecordedPixels):
        return BagPlace(image.origin, checksum(image.image))
    return None


def content_of(image: Path | Frame) -> bytes:
    """A file as it is, pixels as PNG."""
    if isinstance(image, Path):
        return image.read_bytes()
    bgr = cv2.cvtColor(image.image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])[1].tobytes()


def checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)


class ImageReader:
    """Turns what was sent into what a model takes."""

    def __init__(self) -> None:
        self._pixels = PixelReader()
        self._stack = ExitStack()

    def read(self, sent: Sequence[Sent], contents: Sequence[bytes]) -> list[Path | np.ndarray]:
        """Paths, or pixels.

        Args:
            contents: of those of `sent` that are such, in order.

        Raises:
            Unreachable: one is not at its place here, or is another.
        """
        remaining, bag_places = iter(contents), [each for each in sent if isinstance(each, BagPlace)]
        of_bags = dict(zip(bag_places, self._read_bags(bag_places), strict=True))
        images: list[Path | np.ndarray] = []
        for number, each in enumerate(sent):
            if isinstance(each, FilePlace):
                images.append(_checked(each))
            elif isinstance(each, BagPlace):
                images.append(of_bags[each])
            elif each.suffix:
                path = self._folder / f"{number}{each.suffix}"
                path.write_bytes(next(remaining))
                images.append(path)
            else:
                bgr: Any = cv2.imdecode(np.frombuffer(next(remaining), np.uint8), cv2.IMREAD_COLOR)
                images.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        return images

    @cached_property
    def _folder(self) -> Path:
        """For files that travelled. What a worker that was killed leaves is removed by the next one."""
        place = Path(gettempdir()).resolve()
        temporary = self._stack.enter_context(opened(place))
        return place / self._stack.enter_context(own_folder(temporary, "da3-worker-", 0o700)).name

    def _read_bags(self, places: Sequence[BagPlace]) -> list[np.ndarray]:
        try:
            images = self._pixels.read([place.pixels for place in places])
        except (InputError, KeyError, OSError) as error:
            raise Unreachable(str(error)) from error
        if any(checksum(image) != place.checksum for image, place in zip(images, places, strict=True)):
            raise Unreachable("other pixels")
        return images


def _checked(place: FilePlace) -> Path:
    try:
        same = FilePlace.of(place.path) == place
    except OSError as error:
        raise Unreachable(str(error)) from error
    if not same:
        raise Unreachable("another file")
    return place.path
