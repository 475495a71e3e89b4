# SPDX-License-Identifier: Apache-2.0
"""Questions to the person at the terminal."""

import sys
from pathlib import Path

import typer

from da3_core.errors import InputError


def ask_to_empty(folder: Path) -> None:
    """Return if the export folder may be emptied.

    Raises:
        InputError: there is no terminal to ask at.
        typer.Exit: the person declined (code 0).
    """
    if not sys.stdin.isatty():
        raise InputError(
            f"the export folder {folder} is not empty: "
            "add --auto-cleanup to empty it, or --overwrite to keep other files"
        )
    typer.echo(f"Delete everything in {folder}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        typer.echo("cancelled: nothing was deleted or computed", err=True)
        raise typer.Exit(0)
