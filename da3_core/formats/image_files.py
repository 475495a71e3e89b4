# SPDX-License-Identifier: Apache-2.0
"""The one way to open an image file: what decoders raise is an OSError, and nobody decodes more pixels than allowed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 120_000_000  # of one image; the largest cameras of photographers have 102 million


class BadImageError(OSError):
    """An image file that cannot be decoded; `strerror` says why."""


class TooManyPixelsError(BadImageError):
    """It would take too much memory to decode it; `strerror` says how many pixels it has."""


@contextmanager
def open_image_file(
    source: str | os.PathLike[str] | BinaryIO, formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet; what decodes them later may raise almost anything.

    Args:
        formats: of Pillow; None allows all.

    Raises:
        OSError: there is none, or no image of these formats, which has no `strerror`.
        BadImageError: see there.
    """
    from PIL import Image

    with _opened(source) as given:
        try:
            image = Image.open(given, formats=formats)
        except OSError:
            raise
        except Image.DecompressionBombError as error:
            raise TooManyPixelsError(errno.EFBIG, str(error)) from error
        except Exception as error:  # of a decoder, at odd chunks
            raise BadImageError(errno.EINVAL, f"it cannot be decoded: {error}") from error
        with image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise TooManyPixelsError(errno.EFBIG, f"{pixels} pixels exceed the limit of {MAX_PIXELS} pixels")
            yield image


def _opened(
    source: str | os.PathLike[str] | BinaryIO,
) -> AbstractContextManager[str | os.PathLike[str] | BinaryIO]:
    """What Pillow is given: of a path that knows how to open its file, such as `AllowedFile`, the open file."""
    if isinstance(source, os.PathLike) and hasattr(source, "open"):
        opened: BinaryIO = source.open("rb")
        return opened
    return nullcontext(source)
