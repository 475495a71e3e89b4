# SPDX-License-Identifier: Apache-2.0
"""`da3 intrinsics`: the camera matrix of one image, in pixels of that image."""

from pathlib import Path
from typing import Annotated, Any

import typer

from da3_core.cli.arguments import Debug, flatten_arguments
from da3_core.cli.failures import failures_reported
from da3_core.errors import InputError, OptionError
from da3_core.options import CameraOptions, InferenceOptions, ModelOptions
from da3_core.sources.given_camera import given_camera
from da3_core.sources.images import open_image
from da3_core.storage.staging import write_atomically


@flatten_arguments("intrinsics")
def intrinsics(
    image: Annotated[Path, typer.Option(help="The image.")],
    model: ModelOptions,
    inference: InferenceOptions,
    camera: CameraOptions,
    output: Annotated[Path, typer.Option(help="Text file of three lines with three numbers.")] = Path("K.txt"),
    at_process_res: Annotated[
        bool, typer.Option("--at-process-res", help="For the resized image, as in npz files, instead of the original.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Estimate the intrinsics of one image, or take those that are given, and save them as a 3x3 matrix."""
    with failures_reported(debug):
        open_image(image)
        if not output.parent.is_dir():
            raise InputError(f"the folder of {output} does not exist: create it, or give another --output")
        if (given := given_camera(camera)) is not None:
            if at_process_res:
                raise OptionError("{at_process_res} needs the network, and intrinsics are given: leave one out")
            _save(given.of_files([image])[0], output)
            return
        _estimate(image, model, inference, output, at_process_res)


def _estimate(
    image: Path, model_options: ModelOptions, inference: InferenceOptions, output: Path, at_process_res: bool
) -> None:
    from da3_core.cli.model import load_model

    model = load_model(model_options)
    if not model.preset.has_poses:
        raise InputError(f"{model.preset.name} estimates no intrinsics: use an any-view or nested model")
    prediction = model.predict([image], model.check(inference))
    original, processed = prediction.original_intrinsics(), prediction.intrinsics
    assert original is not None
    assert processed is not None
    assert prediction.original_sizes is not None
    matrix = processed[0] if at_process_res else original[0]
    _save(matrix, output)
    height, width = prediction.original_sizes[0]
    processed_height, processed_width = prediction.depth.shape[1:]
    typer.echo(f"image {width} x {height}, processed at {processed_width} x {processed_height}")
    size = "processed" if at_process_res else "original"
    typer.echo(f"saved to {output}, for the {size} size; pixel edges are at integers, so the image centre is width / 2")


def _save(matrix: Any, output: Path) -> None:
    from da3_core.geometry.cameras import format_matrix

    text = format_matrix(matrix)
    write_atomically(output, text.encode())
    typer.echo(text, nl=False)
    typer.echo(f"fx {matrix[0, 0]:.2f}  fy {matrix[1, 1]:.2f}  cx {matrix[0, 2]:.2f}  cy {matrix[1, 2]:.2f} pixels")
