# SPDX-License-Identifier: Apache-2.0
"""The `da3` command: one module per group of commands, nothing heavy imported before a command runs."""

import logging
import os

import typer

from da3_core.cli.backend import backend
from da3_core.cli.bag import bag
from da3_core.cli.gallery import gallery
from da3_core.cli.gradio import gradio
from da3_core.cli.inference import auto, colmap, image, images, video
from da3_core.cli.intrinsics import intrinsics
from da3_core.cli.progress import StderrHandler

app = typer.Typer(
    name="da3",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (auto, image, images, colmap, video, backend, gradio, gallery, bag, intrinsics):
    app.command()(command)


@app.callback()
def _log_to_stderr() -> None:
    """Depth Anything 3: any number of images in, depth, cameras and point clouds out."""
    levels = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO, "DEBUG": logging.DEBUG}
    level = os.environ.get("DA3_LOG_LEVEL", "INFO")
    if level not in levels:
        raise typer.BadParameter(f"DA3_LOG_LEVEL is {level!r}: use one of {', '.join(levels)}")
    logger = logging.getLogger("da3_core")
    logger.setLevel(levels[level])
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        handler = StderrHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


def main() -> None:
    """Entry point of the `da3` command."""
    app(prog_name="da3")
