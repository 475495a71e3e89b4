# SPDX-License-Identifier: Apache-2.0
"""`da3 auto`, `da3 image` and `da3 images`: image files to results."""

from pathlib import Path
from typing import Annotated

import typer

from da3_core.cli.arguments import ExportArguments, ModelArguments, flatten_arguments
from da3_core.cli.failures import FAILED, failures_reported
from da3_core.sources import Source
from da3_core.sources.detect import describe_inputs, detect
from da3_core.sources.images import IMAGE_EXTENSIONS, open_folder, open_image, parse_extensions


@flatten_arguments
def auto(
    input_path: Annotated[Path, typer.Argument(help="An image or a folder of images.")],
    model: ModelArguments,
    output: ExportArguments,
) -> None:
    """Detect the kind of input and process it."""
    with failures_reported(model.debug):
        kind = detect(input_path)
        if kind is None:
            problem = "is of no known kind" if input_path.exists() else "does not exist"
            typer.echo(f"error: {input_path} {problem}: give {describe_inputs()}", err=True)
            raise typer.Exit(FAILED)
        typer.echo(f"{kind.upper()}: {input_path}", err=True)
        _run(open_image(input_path) if kind == "image" else open_folder(input_path), model, output)


@flatten_arguments
def image(
    image_path: Annotated[Path, typer.Argument(help="An image file.")], model: ModelArguments, output: ExportArguments
) -> None:
    """Process a single image."""
    with failures_reported(model.debug):
        _run(open_image(image_path), model, output)


@flatten_arguments
def images(
    images_dir: Annotated[Path, typer.Argument(help="A folder of images, views of one scene in natural order.")],
    model: ModelArguments,
    output: ExportArguments,
    image_extensions: Annotated[str, typer.Option(help="Which files count as images.")] = ",".join(IMAGE_EXTENSIONS),
) -> None:
    """Process a folder of images."""
    with failures_reported(model.debug):
        _run(open_folder(images_dir, parse_extensions(image_extensions)), model, output)


def _run(source: Source, model: ModelArguments, output: ExportArguments) -> None:
    from da3_core.cli.run import run  # only now, because it imports the network

    run(source, model, output)
