# SPDX-License-Identifier: Apache-2.0
"""Writing files so that nobody ever sees half of one, and finding those that come with the package."""

import os
import sys
from pathlib import Path
from secrets import token_hex

REPOSITORY = Path(__file__).parents[2]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a hidden file beside `path`, then give it its name."""
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")  # of this writer alone
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def package_file(name: str) -> Path | None:
    """A file of this package's share folder, such as `msg/DepthWindow.msg`: installed, or in the checkout."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    places = [*(Path(prefix) / "share" / "da3_ros" / name for prefix in prefixes if prefix), REPOSITORY / name]
    return next((place for place in places if place.is_file()), None)
