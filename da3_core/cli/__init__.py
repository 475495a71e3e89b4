# SPDX-License-Identifier: Apache-2.0
"""The `da3` command: one module per group of commands, nothing heavy imported before a command runs."""

import logging
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from da3_core import __version__
from da3_core.cli.backend import backend
from da3_core.cli.bag import bag
from da3_core.cli.batch import batch
from da3_core.cli.doctor import doctor
from da3_core.cli.export_model import export_model
from da3_core.cli.formats import formats
from da3_core.cli.gallery import gallery
from da3_core.cli.gradio import gradio
from da3_core.cli.help_pages import WIDTH, GroupedCommand, GroupedCommands
from da3_core.cli.inference import auto, colmap, image, images, video
from da3_core.cli.intrinsics import intrinsics
from da3_core.cli.models import models
from da3_core.cli.progress import StderrHandler

COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "From images": (auto, image, images, video, colmap, intrinsics),
    "From robots": (bag,),
    "Many of these": (batch,),
    "In a browser, and over HTTP": (gallery, gradio, backend),
    "About this installation": (models, formats, doctor, export_model),
}

app = typer.Typer(
    name="da3",
    cls=GroupedCommands,
    context_settings=WIDTH,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for heading, commands in COMMANDS.items():
    for command in commands:
        app.command(cls=GroupedCommand, rich_help_panel=heading)(command)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"da3 {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Depth Anything 3: any number of images in, depth, cameras and point clouds out."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    levels = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG}
    level = os.environ.get("DA3_LOG_LEVEL", "INFO")
    if level not in levels:
        raise typer.BadParameter(f"DA3_LOG_LEVEL is {level!r}: use one of {', '.join(levels)}")
    logger = logging.getLogger("da3_core")
    logger.setLevel(levels[level])
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())


def main() -> None:
    """Entry point of the `da3` command."""
    app(prog_name="da3")
