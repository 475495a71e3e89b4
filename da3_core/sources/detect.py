# SPDX-License-Identifier: Apache-2.0
"""Which kind of input a path is, judged by names alone."""

from pathlib import Path
from typing import Literal

from da3_core.sources.images import IMAGE_EXTENSIONS, is_image

InputKind = Literal["image", "images", "video", "colmap"]

VIDEO_EXTENSIONS = ("mp4", "avi", "mov", "mkv", "flv", "wmv", "webm", "m4v")


def detect(path: Path) -> InputKind | None:
    """The kind of input at `path`, or None when it is missing or of no known kind.

    A folder with `images/` and `sparse/` in it is a COLMAP reconstruction, even if it also holds image files.
    """
    if path.is_file():
        extension = path.suffix[1:].lower()
        return "image" if extension in IMAGE_EXTENSIONS else "video" if extension in VIDEO_EXTENSIONS else None
    if not path.is_dir():
        return None
    if (path / "images").is_dir() and (path / "sparse").is_dir():
        return "colmap"
    return "images" if any(is_image(child) and child.is_file() for child in path.iterdir()) else None


def describe_inputs() -> str:
    """What `detect` accepts, for error messages."""
    images, videos = ", ".join(IMAGE_EXTENSIONS), ", ".join(VIDEO_EXTENSIONS)
    return (
        f"an image file ({images}), a folder of images, a video file ({videos}) "
        "or a COLMAP folder (with images/ and sparse/ in it)"
    )
