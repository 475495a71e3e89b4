# SPDX-License-Identifier: Apache-2.0
"""`da3 export-model`: a network as one ONNX file."""

import json as json_format
import re
from pathlib import Path
from typing import Annotated

import typer

from da3_core.cli.arguments import Debug, Json
from da3_core.cli.failures import failures_reported
from da3_core.errors import InputError
from da3_core.options import PROCESS_RES

DEFAULT_SIZE = f"378x{PROCESS_RES}"


def export_model(
    model: Annotated[str, typer.Argument(help="Hub id, local folder, model name, embedded, or untrained:NAME.")],
    output: Annotated[Path, typer.Argument(help="The ONNX file.")],
    views: Annotated[str, typer.Option(help="Number of views of a scene, or dynamic for any.")] = "dynamic",
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Height and width of the images in pixels, multiples of 14.")
    ] = DEFAULT_SIZE,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a network as an ONNX file for other runtimes, checked against torch."""
    with failures_reported(debug):
        chosen = re.fullmatch(r"(\d+)x(\d+)", size)
        if chosen is None:
            raise InputError(f"size is {size!r}; give height and width, such as {DEFAULT_SIZE}")
        if views != "dynamic" and not views.isdecimal():
            raise InputError(f"views is {views!r}; give a number or dynamic")
        if not output.parent.is_dir():
            raise InputError(f"the folder of {output} does not exist: create it, or give another file")
        from da3_core.engines import is_installed

        if not (is_installed("onnxruntime") and is_installed("onnx")):
            raise InputError('ONNX files need an extra: pip install "da3_ros[onnx]"')
        from da3_core.api import DepthAnything3
        from da3_core.engines.onnx_file import write_onnx

        loaded = DepthAnything3.from_pretrained(model, engine="torch", precision="float32")
        count = None if views == "dynamic" else int(views)
        written = write_onnx(loaded.model, output, (int(chosen[1]), int(chosen[2])), count)
        told = {
            "file": str(written.path),
            "model": loaded.preset.name,
            "weights_licence": loaded.preset.licence,
            "opset": written.opset,
            "shapes": written.shapes,
            "deviation_from_torch": written.deviation,
        }
        if json:
            typer.echo(json_format.dumps(told, indent=2))
            return
        for name, shape in written.shapes.items():
            typer.echo(f"{name:16} {' x '.join(map(str, shape))}")
        for number, deviation in written.deviation.items():
            typer.echo(f"with {number} view{'s' if number > 1 else ''} within {deviation:.1e} of torch")
        typer.echo(f"saved to {output}, opset {written.opset}, weights under {loaded.preset.licence}")
