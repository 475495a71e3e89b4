# SPDX-License-Identifier: Apache-2.0
"""From a source to written results: the one path that every inference command takes on this machine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from da3_core.cli.arguments import OutputArguments
from da3_core.cli.ask import ask_to_empty
from da3_core.cli.at_hand import OpenModel, inference_at_hand
from da3_core.cli.failures import FAILED
from da3_core.cli.progress import stage
from da3_core.cli.written import sizes, tell_files
from da3_core.export import left_out, parse_formats
from da3_core.options import ModelOptions, SceneOptions
from da3_core.pipeline import Stage, bind_scene, export_scene, infer_windows
from da3_core.sources import Source
from da3_core.sources.given_camera import GivenCamera
from da3_core.storage.export_folder import choose_export_folder
from da3_core.stream.inference import WindowRow

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.cluster.pool import RemoteModel
    from da3_core.prediction import Prediction

logger = logging.getLogger(__name__)


def run(
    source: Source,
    model_options: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    open_model: OpenModel,
    camera: GivenCamera | None = None,
    show: Stage = stage,
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
    rows: list[WindowRow] = []
    with folder.held(), open_model() as hand:
        model = hand.model
        options = model.check_scene(
            options, views=source.views, intrinsics_known=source.has_cameras or camera is not None
        )

        with show("input", source.views, "views") as advance:
            scene = source.read(folder.coming, advance)
        if camera is not None:
            scene = replace(scene, intrinsics=camera.of_files(scene.images))
        resumed, request_of = output.export_dir if output.resume else None, bind_scene(scene)
        with inference_at_hand(hand, request_of, options, rows.append, resumed=resumed) as infer:
            prediction = infer_windows(model, scene, options, show, infer)
            files = export_scene(prediction, folder, options, show)

    if any(name.endswith("npz") for name in formats):
        logger.info("intrinsics in npz files are in pixels of the depth, `da3 intrinsics` gives those of the image")
    if output.json:
        typer.echo(json.dumps(_summary(source, model, prediction, files, rows, time.perf_counter() - start), indent=2))
    else:
        tell_files(files)
    if lacking := left_out(prediction, options.export_format):
        typer.echo(f"error: {lacking}", err=True)
        raise typer.Exit(FAILED)


def _summary(
    source: Source,
    model: DepthAnything3 | RemoteModel,
    prediction: Prediction,
    files: dict[str, list[Path]],
    rows: Sequence[WindowRow],
    seconds: float,
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
        "precision": model.precision_status,
        "intrinsics": prediction.intrinsics_source,
        "cropped": prediction.cropped(),
        "is_metric": bool(prediction.is_metric),
        "scale_factor": prediction.scale_factor,
        "seconds": round(seconds, 3),
        "files": sizes(files),
        "windows": [asdict(row) for row in rows],
    }
