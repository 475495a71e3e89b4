# SPDX-License-Identifier: Apache-2.0
"""What a task does: from a request to files and to what is told of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from da3_core.errors import OptionError
from da3_core.export import left_out
from da3_core.geometry.cameras import check_extrinsics, check_intrinsics
from da3_core.options import SceneOptions
from da3_core.pipeline import export_scene
from da3_core.sources import SceneImages
from da3_core.sources.given_camera import GivenCamera, given_camera
from da3_core.sources.times import stamps_in_names
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.storage.export_folder import ExportFolder, choose_export_folder
from da3_core.web.backend.schema import InferenceRequest, TaskResult, WrittenFile, as_array
from da3_core.web.backend.tasks import Progress
from da3_core.web.model_runner import ModelRunner

# Where the progress stands when a stage begins and when it ends.
STAGES = {"inference": (0.3, 0.8), "export": (0.8, 0.98)}


@dataclass(frozen=True)
class TaskLimits:
    """What one task may take; None for as much as there is.

    Attributes:
        bytes: of memory for what the network holds at once.
        seconds: of time.
    """

    bytes: float | None = None
    seconds: float | None = None

    def check(self, needed_bytes: float, needed_seconds: float) -> None:
        """
        Raises:
            InputError: that is more.
        """
        if self.bytes is not None and needed_bytes > self.bytes:
            raise OptionError(
                "the request takes about {needed:.1f} GB and may take {most:g} GB ({max_task_gb}): give fewer or "
                "smaller views",
                needed=needed_bytes / 1e9,
                most=self.bytes / 1e9,
            )
        if self.seconds is not None and needed_seconds > self.seconds:
            raise OptionError(
                "the request takes about {needed:.0f} s and may take {most:g} s ({max_task_seconds}): give fewer or "
                "smaller views",
                needed=needed_seconds,
                most=self.seconds,
            )


@dataclass(frozen=True, eq=False)
class Job:
    """A request that was found good: cameras are arrays, paths are still as they came.

    Attributes:
        image_paths, export_dir, auto_cleanup: of `InferenceRequest`.
        extrinsics, intrinsics: of `sources.SceneImages`.
        camera: tells the intrinsics in their place.
        options: what is computed and written.
    """

    image_paths: Sequence[str]
    export_dir: str | None
    auto_cleanup: bool
    extrinsics: np.ndarray | None
    intrinsics: np.ndarray | None
    options: SceneOptions
    camera: GivenCamera | None = None


def check(request: InferenceRequest, folders: AllowedFolders, runner: ModelRunner, limits: TaskLimits) -> Job:
    """The work that a request asks for; nothing is written.

    Raises:
        NotAllowedError: a path is outside the allowed folders.
        InputError: an image or a camera cannot be used, or the folder cannot, or it takes too much.
    """
    job = make_job(request)
    scene, _ = _find(job, folders)
    limits.check(*runner.predict(scene, job.options))
    return job


def make_job(request: InferenceRequest) -> Job:
    """
    Raises:
        InputError: a camera cannot be used.
    """
    views, options = len(request.image_paths), request.scene_options()
    extrinsics, intrinsics = as_array(request.extrinsics), as_array(request.intrinsics)
    if extrinsics is not None:
        check_extrinsics(extrinsics, views)
    if intrinsics is not None:
        check_intrinsics(intrinsics, views)
    return Job(
        request.image_paths,
        request.export_dir,
        request.auto_cleanup,
        extrinsics,
        intrinsics,
        options,
        given_camera(request.camera_options(), apply_exif=options.apply_exif),
    )


def infer(job: Job, folders: AllowedFolders, runner: ModelRunner, progress: Progress) -> TaskResult:
    """Do what was asked for; paths are looked at again, because time has passed.

    Raises:
        InputError: as `check`, `ModelRunner.infer` and `export.export`.
    """
    start = time.perf_counter()
    scene, folder = _find(job, folders)

    def stage(name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], object]]:
        return progress.part(name, total, unit, *STAGES[name])

    if not runner.is_loaded:
        progress.report(f"loading {runner.source}", 0.1)
    with nullcontext() if folder is None else folder.held():
        prediction = runner.infer(scene, job.options, stage, progress.check)
        files = {} if folder is None else export_scene(prediction, folder, _with_files(job.options, scene), stage)
        formats = {name: [_written(folders, path) for path in paths] for name, paths in files.items()}

    preset, warning = runner.state.preset, runner.state.warning
    assert preset is not None
    views, height, width = prediction.depth.shape
    return TaskResult(
        export_dir=None if folder is None else str(folder.path),
        files=[str(path) for paths in files.values() for path in paths],
        formats=formats,
        depth_shape=(views, height, width),
        scale_factor=prediction.scale_factor,
        is_metric=bool(prediction.is_metric),
        model=preset.name,
        weights_licence=preset.licence,
        device=str(runner.device),
        warning=" ".join(filter(None, (warning, prediction.cropped()))) or None,
        left_out=None if folder is None else left_out(prediction, job.options.export_format),
        timings={**progress.timings, "total": round(time.perf_counter() - start, 3)},
    )


def _find(job: Job, folders: AllowedFolders) -> tuple[SceneImages, ExportFolder | None]:
    """The scene of a job and the folder of its results, with links followed."""
    files = tuple(map(folders.input_image, job.image_paths))
    paths = [file.path for file in files]
    intrinsics = job.intrinsics if job.camera is None else job.camera.of_files(files)
    scene = SceneImages(files, job.extrinsics, intrinsics, stamps_in_names(paths))
    if job.export_dir is None:
        return scene, None
    folder = choose_export_folder(
        folders.folder(job.export_dir),
        paths,
        auto_cleanup=job.auto_cleanup,
        force_cleanup=False,
        overwrite=not job.auto_cleanup,
        ask=lambda path: None,
        never_emptied=folders.roots,
        unchanged=paths,
    )
    folders.confined(folder.real)
    return scene, folder


def _with_files(options: SceneOptions, scene: SceneImages) -> SceneOptions:
    """The exporter that copies images opens them as they were opened to decode them."""
    copying = options.export_kwargs.get("colmap", {})
    if not copying.get("copy_images"):
        return options
    return replace(options, export_kwargs={**options.export_kwargs, "colmap": {**copying, "image_names": scene.images}})


def _written(folders: AllowedFolders, path: Path) -> WrittenFile:
    with folders.open_file(path) as file:
        return WrittenFile(path=str(path), bytes=os.fstat(file.fileno()).st_size)
