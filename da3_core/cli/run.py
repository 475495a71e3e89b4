# SPDX-License-Identifier: Apache-2.0
"""From a source to written results: the one path that every inference command takes on this machine."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from da3_core.cli.arguments import ExportArguments, ModelArguments, scene_options
from da3_core.cli.ask import ask_to_empty
from da3_core.cli.model import load_model
from da3_core.cli.progress import stage
from da3_core.options import InferenceOptions
from da3_core.pipeline import check_scene, export_scene, infer_scene
from da3_core.sources import Source
from da3_core.storage.export_folder import choose_export_folder

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.prediction import Prediction

logger = logging.getLogger(__name__)


def run(
    source: Source,
    arguments: ModelArguments,
    output: ExportArguments,
    align_to_input_ext_scale: bool = InferenceOptions.align_to_input_ext_scale,
) -> None:
    """Check every choice, then load, read, infer, export and report.

    An existing export folder is emptied when the first new file is ready for it, not before.
    """
    start = time.perf_counter()
    options = scene_options(arguments, output, align_to_input_ext_scale)
    folder = choose_export_folder(
        output.export_dir,
        [source.path, Path(arguments.model_dir)],
        auto_cleanup=output.auto_cleanup,
        force_cleanup=output.force_cleanup,
        overwrite=output.overwrite,
        ask=ask_to_empty,
    )
    model = load_model(arguments)
    check_scene(model, options, views=source.views, has_cameras=source.has_cameras)

    with stage("input", source.views, "views") as advance:
        scene = source.read(folder.prepare, advance)
    prediction = infer_scene(model, scene, options, stage)
    files = export_scene(prediction, folder, options, stage)

    if any(name.endswith("npz") for name in options.formats):
        logger.info("intrinsics in npz files are in pixels of the depth, `da3 intrinsics` gives those of the image")
    if output.json:
        typer.echo(json.dumps(_summary(source, model, prediction, files, time.perf_counter() - start), indent=2))
    else:
        for paths in files.values():
            for path in paths:
                typer.echo(path)


def _summary(
    source: Source, model: DepthAnything3, prediction: Prediction, files: dict[str, list[Path]], seconds: float
) -> dict[str, Any]:
    views, height, width = prediction.depth.shape
    return {
        "input": str(source.path),
        "views": views,
        "processed_size": [height, width],
        "model": model.preset.name,
        "weights_licence": model.preset.licence,
        "device": str(model.device),
        "is_metric": bool(prediction.is_metric),
        "scale_factor": prediction.scale_factor,
        "seconds": round(seconds, 3),
        "files": {
            name: [{"path": str(path), "bytes": path.stat().st_size} for path in paths] for name, paths in files.items()
        },
    }
