# SPDX-License-Identifier: Apache-2.0
"""`da3 intrinsics`: the camera matrix of one image, in pixels of that image."""

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from da3_core.cli.arguments import Debug, Json, flatten_arguments
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
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Estimate the intrinsics of one image, or take those that are given, and save them as a 3x3 matrix."""
    with failures_reported(debug):
        from da3_core.geometry.cameras import format_matrix

        open_image(image)
        if not output.parent.is_dir():
            raise InputError(f"the folder of {output} does not exist: create it, or give another --output")
        if (given := given_camera(camera, apply_exif=inference.apply_exif)) is not None:
            if at_process_res:
                raise OptionError("{at_process_res} needs the network, and intrinsics are given: leave one out")
            found = _Found(given.of_files([image])[0], "known", *given.size_of(image))
        else:
            found = _estimate(image, model, inference, at_process_res)
        write_atomically(output, format_matrix(found.matrix).encode())
        _tell(found, image, output, json)


@dataclass(frozen=True, eq=False)
class _Found:
    """A camera.

    Attributes:
        matrix: `(3, 3)` intrinsics in pixels of an image of this width and height.
        source: as of `Prediction.intrinsics_source`.
        note: what else is to be said of the size.
    """

    matrix: Any
    source: str
    width: int
    height: int
    note: str = ""


def _estimate(image: Path, model_options: ModelOptions, inference: InferenceOptions, at_process_res: bool) -> _Found:
    from da3_core.cli.model import load_model

    model = load_model(model_options)
    if not model.preset.has_poses:
        raise InputError(f"{model.preset.name} estimates no intrinsics: use an any-view or nested model")
    prediction = model.predict([image], model.check(inference))
    original, processed = prediction.original_intrinsics(), prediction.intrinsics
    assert original is not None
    assert processed is not None
    assert prediction.original_sizes is not None
    height, width = map(int, prediction.original_sizes[0])
    processed_height, processed_width = prediction.depth.shape[1:]
    if at_process_res:
        return _Found(
            processed[0], "estimated", processed_width, processed_height, f", resized from {width} x {height}"
        )
    note = f", processed at {processed_width} x {processed_height}"
    return _Found(original[0], "estimated", width, height, note)


def _tell(found: _Found, image: Path, output: Path, json: bool) -> None:
    matrix = found.matrix
    if json:
        told = {
            "image": str(image),
            "output": str(output),
            "intrinsics": matrix.tolist(),
            "source": found.source,
            "width": found.width,
            "height": found.height,
        }
        typer.echo(json_format.dumps(told, indent=2))
        return
    from da3_core.geometry.cameras import format_matrix

    typer.echo(format_matrix(matrix), nl=False)
    typer.echo(f"fx {matrix[0, 0]:.2f}  fy {matrix[1, 1]:.2f}  cx {matrix[0, 2]:.2f}  cy {matrix[1, 2]:.2f} pixels")
    typer.echo(f"for an image of {found.width} x {found.height}{found.note}, saved to {output}")
    typer.echo("pixel edges are at integers, so the image centre is width / 2")
