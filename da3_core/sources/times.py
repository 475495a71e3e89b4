# SPDX-License-Identifier: Apache-2.0
"""When images of a folder were taken: by their names, as EuRoC and TUM RGB-D have them, or by KITTI's `times.txt`."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_NANOSECONDS = re.compile(r"[12]\d{18}")  # since 1970: the years 2001 to 2065
_MOST_SECONDS = 2**63 // 10**9
_SECONDS = re.compile(r"[12]\d{9}\.\d{1,9}")

logger = logging.getLogger(__name__)


def stamps_of_images(paths: Sequence[Path]) -> np.ndarray | None:
    """`(N,)` int64 nanoseconds by the names or by `times.txt`, beside the images or beside their folder, which has a
    line for every image, a number of seconds; None where there is neither.
    """
    stamps_ns = stamps_in_names(paths)
    if stamps_ns is not None:
        return stamps_ns
    folders = {path.parent for path in paths}
    if len(folders) == 1:
        (folder,) = folders
        for listed in (folder / "times.txt", folder.parent / "times.txt"):
            if listed.is_file():
                return _read(listed, len(paths))
    return None


def stamps_in_names(paths: Sequence[Path]) -> np.ndarray | None:
    """As `stamps_of_images`, where the names of all images are times: `1403636579763555584.png`, nanoseconds, or
    `1305031102.175304.png`, seconds."""
    stems = [path.stem for path in paths]
    if all(map(_NANOSECONDS.fullmatch, stems)):
        return _array([int(stem) for stem in stems])
    return _from_seconds(stems) if all(map(_SECONDS.fullmatch, stems)) else None


def _read(path: Path, images: int) -> np.ndarray | None:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    if len(lines) != images:
        logger.warning("%s has %d times for %d images, so it is left out", path, len(lines), images)
        return None
    try:
        return _from_seconds(lines)
    except (ArithmeticError, ValueError):
        logger.warning("%s holds other things than a number of seconds per line, so it is left out", path)
        return None


def _from_seconds(texts: Sequence[str]) -> np.ndarray:
    """Raises ValueError or ArithmeticError where a text is no number of seconds of this age."""
    seconds = [Decimal(text.strip()) for text in texts]
    if not all(abs(each) < _MOST_SECONDS for each in seconds):  # whole numbers of any size would take any time
        raise OverflowError
    return _array([int((each * 10**9).to_integral_value()) for each in seconds])


def _array(stamps_ns: Sequence[int]) -> np.ndarray:
    import numpy as np

    return np.array(stamps_ns, np.int64)
