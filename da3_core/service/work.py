# SPDX-License-Identifier: Apache-2.0
"""What a task does: from a request to files and to what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from da3_core.errors import InputError
from da3_core.export_folder import ExportFolder, choose_export_folder
from da3_core.geometry.camera import check_extrinsics, check_intrinsics
from da3_core.processing import export_scene
from da3_core.service.allowed_folders import AllowedFolders
from da3_core.service.model_runner import ModelRunner
from da3_core.service.schema import InferenceRequest, TaskResult, WrittenFile
from da3_core.service.tasks import Progress
from da3_core.sources import Scene

# Where the progress stands when a stage begins and when it ends.
_STAGES = {"inference": (0.3, 0.8), "export": (0.8, 0.98)}


def check_request(request: InferenceRequest, folders: AllowedFolders) -> tuple[Scene, ExportFolder | None]:
    """The scene of a request and the folder of its results, with links followed; nothing is written.

    Raises:
        NotAllowedError: a path is outside the allowed folders.
        InputError: an image or a camera cannot be used, or the folder cannot.
    """
    paths = tuple(map(folders.input_image, request.image_paths))
    given = (request.extrinsics, request.intrinsics)
    extrinsics, intrinsics = (None if matrices is None else _array(matrices) for matrices in given)
    if extrinsics is not None:
        check_extrinsics(extrinsics, len(paths))
    if intrinsics is not None:
        check_intrinsics(intrinsics, len(paths))
    scene = Scene(paths, extrinsics, intrinsics)
    if request.export_dir is None:
        return scene, None
    folder = choose_export_folder(
        folders.output_folder(request.export_dir),
        [*paths, *folders.roots],
        auto_cleanup=request.auto_cleanup,
        force_cleanup=False,
        overwrite=not request.auto_cleanup,
        ask=lambda path: None,
    )
    return scene, folder


def infer(request: InferenceRequest, folders: AllowedFolders, runner: ModelRunner, progress: Progress) -> TaskResult:
    """Do what was asked for; paths are looked at again, because time has passed.

    Raises:
        InputError: as `check_request`, `ModelRunner.infer` and `export.export`.
    """
    start = time.perf_counter()
    scene, folder = check_request(request, folders)
    options = request.scene_options()

    def stage(name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], object]]:
        return progress.part(name, total, unit, *_STAGES[name])

    if not runner.is_loaded:
        progress.report(f"loading {runner.source}", 0.1)
    prediction = runner.infer(scene, options, stage)
    files = {} if folder is None else export_scene(prediction, folder, options, stage)

    preset, caution = runner.state.preset, runner.state.caution
    assert preset is not None
    views, height, width = prediction.depth.shape
    return TaskResult(
        export_dir=None if folder is None else str(folder.path),
        files=[str(path) for paths in files.values() for path in paths],
        formats={
            name: [WrittenFile(path=str(path), bytes=path.stat().st_size) for path in paths]
            for name, paths in files.items()
        },
        depth_shape=(views, height, width),
        scale_factor=prediction.scale_factor,
        is_metric=bool(prediction.is_metric),
        model=preset.name,
        weights_licence=preset.licence,
        device=str(runner.device),
        caution=caution,
        timings={**progress.timings, "total": round(time.perf_counter() - start, 3)},
    )


def _array(matrices: list[list[list[float]]]) -> np.ndarray:
    try:
        return np.array(matrices, np.float64)
    except ValueError:
        raise InputError("matrices have rows of different lengths: give 3 or 4 rows of 3 or 4 numbers each") from None
