# SPDX-License-Identifier: Apache-2.0
"""Finding the files that come with the package."""

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def user_cache() -> Path:
    """The folder for what can be made again: `$XDG_CACHE_HOME/da3_ros` or `~/.cache/da3_ros`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "da3_ros"


def user_state() -> Path:
    """The folder for what must outlive a process: `$XDG_STATE_HOME/da3_ros` or `~/.local/state/da3_ros`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "da3_ros"


def package_file(name: str) -> Path | None:
    """A file of this package's share folder, such as `msg/DepthWindow.msg`: installed, or in the checkout."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    places = [*(Path(prefix) / "share" / "da3_ros" / name for prefix in prefixes if prefix), REPOSITORY / name]
    return next((place for place in places if place.is_file()), None)
