# SPDX-License-Identifier: Apache-2.0
"""What commands say of the files that they wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

MOST_NAMED = 8  # files of a kind in a folder, each on a line of its own


def tell_files(files: Mapping[str, Sequence[Path]]) -> None:
    """Print a line per file; where a folder got many of a kind, one line for all of these."""
    for line in lines(files):
        typer.echo(line)


def lines(files: Mapping[str, Sequence[Path]]) -> list[str]:
    """`out/depth_vis/0000.jpg` and so on, or `out/depth_vis/*.jpg (300 files)`; in the order of the first of each."""
    kinds: dict[Path, dict[Path, None]] = {}
    for paths in files.values():
        for path in paths:
            kinds.setdefault(path.parent / f"*{path.suffix}", {})[path] = None
    told: list[str] = []
    for kind, members in kinds.items():
        told += map(str, members) if len(members) <= MOST_NAMED else [f"{kind} ({len(members)} files)"]
    return told


def sizes(files: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, Any]]]:
    """The files of each format with their bytes, for `--json`."""
    return {
        name: [{"path": str(path), "bytes": path.stat().st_size} for path in paths] for name, paths in files.items()
    }
