# SPDX-License-Identifier: Apache-2.0
"""From a source to written results: the one path that every inference command takes on this machine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from da3_core.cli.arguments import OutputArguments
from da3_core.cli.ask import ask_to_empty
from da3_core.cli.failures import FAILED
from da3_core.cli.model import load_model
from da3_core.cli.progress import stage
from da3_core.cli.written import sizes, tell_files
from da3_core.export import left_out, parse_formats
from da3_core.options import ModelOptions, SceneOptions
from da3_core.pipeline import bind_scene, export_scene, infer_windows
from da3_core.sources import SceneImages, Source
from da3_core.sources.given_camera import GivenCamera
from da3_core.storage.export_folder import choose_export_folder
from da3_core.stream.inference import Inference, InferenceInTurn, bind_predict
from da3_core.stream.kept_windows import KeptInference, kept_beside

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.prediction import Prediction

logger = logging.getLogger(__name__)


def run(
    source: Source,
    model_options: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    camera: GivenCamera | None = None,
) -> None:
    """Check every choice, then load, read, infer, export and report.

    An existing export folder is emptied when the first new file is ready for it, not before.
    """
    start = time.perf_counter()
    formats = parse_formats(options.export_format)
    folder = choose_export_folder(
        output.export_dir,
        [source.path, Path(model_options.model)],
        auto_cleanup=output.auto_cleanup,
        force_cleanup=output.force_cleanup,
        overwrite=output.overwrite,
        ask=ask_to_empty,
    )
    with folder.held():
        model = load_model(model_options)
        options = model.check_scene(
            options, views=source.views, intrinsics_known=source.has_cameras or camera is not None
        )

        with stage("input", source.views, "views") as advance:
            scene = source.read(folder.coming, advance)
        if camera is not None:
            scene = replace(scene, intrinsics=camera.of_files(scene.images))
        with _inference(model, scene, options, output) as infer:
            prediction = infer_windows(model, scene, options, stage, infer)
            files = export_scene(prediction, folder, options, stage)

    if any(name.endswith("npz") for name in formats):
        logger.info("intrinsics in npz files are in pixels of the depth, `da3 intrinsics` gives those of the image")
    if output.json:
        typer.echo(json.dumps(_summary(source, model, prediction, files, time.perf_counter() - start), indent=2))
    else:
        tell_files(files)
    if lacking := left_out(prediction, options.export_format):
        typer.echo(f"error: {lacking}", err=True)
        raise typer.Exit(FAILED)


@contextmanager
def _inference(
    model: DepthAnything3, scene: SceneImages, options: SceneOptions, output: OutputArguments
) -> Iterator[Inference[int]]:
    """Of the views of a scene; to be resumed, its windows are kept until the block ends well."""
    request_of = bind_scene(scene)
    infer: Inference[int] = InferenceInTurn(request_of, bind_predict(model, options))
    if output.resume:
        with kept_beside(output.export_dir, model, options) as kept:
            yield KeptInference(infer, request_of, kept)
    else:
        yield infer


def _summary(
    source: Source, model: DepthAnything3, prediction: Prediction, files: dict[str, list[Path]], seconds: float
) -> dict[str, Any]:
    views, height, width = prediction.depth.shape
    return {
        "input": str(source.path),
        "views": views,
        "views_placed": int(prediction.placed.sum()),
        "processed_size": [height, width],
        "model": model.preset.name,
        "weights_licence": model.preset.licence,
        "device": str(model.device),
        "engine": model.engine_status,
        "intrinsics": prediction.intrinsics_source,
        "cropped": prediction.cropped(),
        "is_metric": bool(prediction.is_metric),
        "scale_factor": prediction.scale_factor,
        "seconds": round(seconds, 3),
        "files": sizes(files),
    }
