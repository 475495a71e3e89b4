# SPDX-License-Identifier: Apache-2.0
"""From a source to results that a backend computes: the path that every inference command takes with --use-backend."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from da3_core.cli.arguments import BackendArguments, OutputArguments
from da3_core.cli.ask import ask_to_empty
from da3_core.cli.failures import FAILED, report
from da3_core.cli.progress import stage
from da3_core.cli.written import tell_files
from da3_core.errors import InputError
from da3_core.export import parse_formats
from da3_core.options import ModelOptions, SceneOptions, declared
from da3_core.sources import SceneImages, Source
from da3_core.sources.given_camera import GivenCamera
from da3_core.storage.export_folder import choose_export_folder
from da3_core.web.backend.client import BackendClient, TaskFailedError

logger = logging.getLogger(__name__)


def submit(
    source: Source,
    model: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    backend: BackendArguments,
    camera: GivenCamera | None = None,
) -> None:
    """Check every choice, ask for the backend, read, send, wait and report.

    Frames of a video and rectified images are written here; they and all results share the export folder, which is
    emptied, where that is wanted, when the results are ready: here, where something was written into it, else by the
    backend. Where nobody waits for the results, it is emptied before.
    """
    start = time.perf_counter()
    parse_formats(options.export_format)
    folder = choose_export_folder(
        output.export_dir,
        [source.path],
        auto_cleanup=output.auto_cleanup,
        force_cleanup=output.force_cleanup,
        overwrite=output.overwrite,
        ask=ask_to_empty,
    )
    client = BackendClient(backend.backend_url, backend.backend_token)
    try:
        _compare(model, str(client.status().get("model_dir")))
        with folder.held(), stage("input", source.views, "views") as advance:
            scene = source.read(folder.made if backend.wait else folder.prepare, advance)
            if camera is not None:
                scene = replace(scene, intrinsics=camera.of_files(scene.images))
            if folder.empty_first and output.force_cleanup:
                folder.mark()  # the backend empties no folder without it
        request = _request(scene, options)
        is_shared = any(Path(path).is_relative_to(folder.path) for path in scene.images)
        empty_first = folder.empty_first and not is_shared  # as it holds what the backend reads
        task_id = client.submit({**request, "export_dir": str(folder.path), "auto_cleanup": empty_first})
        if not backend.wait:
            typer.echo(json.dumps({"task_id": task_id}) if output.json else task_id)
            return
        logger.info("task %s at %s", task_id, client.url)
        result = _wait(client, task_id)
        if is_shared:
            folder.prepare()
    except TaskFailedError as error:
        report(error)
        raise typer.Exit(FAILED) from None
    if result["warning"]:
        logger.warning(result["warning"])
    if output.json:
        typer.echo(json.dumps(_summary(source, result, time.perf_counter() - start), indent=2))
    else:
        tell_files({"all": [Path(path) for path in result["files"]]})
    if result["left_out"]:
        typer.echo(f"error: {result['left_out']}", err=True)
        raise typer.Exit(FAILED)


def _compare(wanted: ModelOptions, served: str) -> None:
    """What was asked for against what the backend has; it chooses its model and device for all its callers."""
    if wanted.weights_licence != ModelOptions.weights_licence:
        raise InputError("--weights-licence is for the backend to obey: give it to `da3 backend`")
    for name in ("device", "precision", "engine"):
        if getattr(wanted, name) != getattr(ModelOptions, name):
            logger.warning("--%s has no effect with --use-backend: give it to `da3 backend`", name)
    if wanted.model != ModelOptions.model and _plain(wanted.model) != _plain(served):
        logger.warning("the backend has the model %s, not %s: its own is used", served, wanted.model)


def _plain(model: str) -> str:
    """A model's name in one spelling."""
    if Path(model).is_dir():
        return os.path.realpath(model)
    return model.lower().removeprefix("depth-anything/")


def _request(scene: SceneImages, options: SceneOptions) -> dict[str, Any]:
    """What goes to `/inference`: values that were not given are left out."""
    values = {name: getattr(options, name) for name, each in declared(SceneOptions).items() if "http" in each.faces}
    cameras = {"extrinsics": scene.extrinsics, "intrinsics": scene.intrinsics}
    return {
        "image_paths": [os.path.abspath(path) for path in scene.images],
        **{name: matrices.tolist() for name, matrices in cameras.items() if matrices is not None},
        **{name: value for name, value in values.items() if value is not None},
    }


def _wait(client: BackendClient, task_id: str) -> dict[str, Any]:
    """The result of the task.

    Raises:
        TaskFailedError: it failed.
        KeyboardInterrupt: Ctrl-C; the task is cancelled.
    """
    percent, message = 0, ""
    try:
        with stage("backend", 100, "%") as advance:
            while (task := client.next_status(task_id))["status"] in ("pending", "running"):
                if task["queue_position"]:
                    task["message"] = f"waiting, {task['queue_position']} before it"
                if task["message"] != message:
                    message = task["message"]
                    logger.info(message)
                done = round(100 * (task["progress"] or 0))
                advance(done - percent)
                percent = done
            if task["status"] != "completed":
                raise TaskFailedError(task["message"])
            advance(100 - percent)
    except KeyboardInterrupt:
        with suppress(InputError, TaskFailedError):
            client.cancel(task_id)
        raise
    result: dict[str, Any] = task["result"]
    return result


def _summary(source: Source, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """As of a run on this machine, with the times of the backend."""
    views, height, width = result["depth_shape"]
    return {
        "input": str(source.path),
        "views": views,
        "processed_size": [height, width],
        **{name: result[name] for name in ("model", "weights_licence", "device", "is_metric", "scale_factor")},
        "seconds": round(seconds, 3),
        "timings": result["timings"],
        "files": result["formats"],
    }
