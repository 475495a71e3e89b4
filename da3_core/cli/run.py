# SPDX-License-Identifier: Apache-2.0
"""From a source to written results: the one path that every inference command takes."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from da3_core.cli.arguments import ExportArguments, ModelArguments, parse_export_kwargs, parse_layers
from da3_core.cli.export_folder import choose_export_folder
from da3_core.cli.infer import infer
from da3_core.cli.model import load_model
from da3_core.cli.progress import stage
from da3_core.export import check_request, export, parse_formats
from da3_core.options import InferenceOptions
from da3_core.sources import Source

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
    formats = parse_formats(output.export_format)
    layers = parse_layers(output.export_feat)
    infer_gs = any(name.startswith("gs_") for name in formats) if output.infer_gs is None else output.infer_gs
    export_options: dict[str, Any] = {
        "export_kwargs": parse_export_kwargs(output.export_kwargs),
        "conf_thresh_percentile": output.conf_thresh_percentile,
        "num_max_points": output.num_max_points,
        "show_cameras": output.show_cameras,
        "feat_vis_fps": output.feat_vis_fps,
    }
    folder = choose_export_folder(
        output.export_dir,
        [source.path, Path(arguments.model_dir)],
        auto_cleanup=output.auto_cleanup,
        force_cleanup=output.force_cleanup,
        overwrite=output.overwrite,
    )
    model = load_model(arguments)
    method = model.resolve_pose_method(arguments.pose_method, use_ray_pose=arguments.use_ray_pose)
    check_request(
        output.export_format,
        model.preset,
        views=source.views,
        intrinsics_known=source.has_cameras,
        infer_gs=infer_gs,
        export_feat_layers=layers,
        poses_from_features=method == "features" and source.views >= 2,
        **export_options,
    )

    with stage("input", source.views, "views") as advance:
        scene = source.read(folder.prepare, advance)
    prediction = infer(
        model,
        scene,
        output.max_views_per_window,
        align_to_input_ext_scale=align_to_input_ext_scale,
        infer_gs=infer_gs,
        use_ray_pose=arguments.use_ray_pose,
        pose_method=arguments.pose_method,
        ref_view_strategy=output.ref_view_strategy,
        process_res=arguments.process_res,
        process_res_method=arguments.process_res_method,
        export_feat_layers=layers,
    )
    with stage("export", len(formats), "formats") as advance:
        files = export(prediction, folder.prepare(), output.export_format, **export_options)
        advance(len(formats))

    if any(name.endswith("npz") for name in formats):
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
