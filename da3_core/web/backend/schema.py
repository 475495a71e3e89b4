# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: requests, which refuse what they do not know, and answers."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, create_model, model_validator

from da3_core.errors import InputError
from da3_core.export import check_formats
from da3_core.options import EXPORT_FORMATS, CameraOptions, Option, SceneOptions, declared

MAX_VIEWS = 20_000

Matrices = list[list[list[FiniteFloat]]]
State = Literal["pending", "running", "completed", "failed", "cancelled"]


def as_array(matrices: Matrices | None) -> np.ndarray | None:
    """Raises InputError where rows differ in length."""
    try:
        return None if matrices is None else np.array(matrices, np.float64)
    except ValueError:
        raise InputError("matrices have rows of different lengths: give 3 or 4 rows of 3 or 4 numbers each") from None


def field_of(option: str) -> str:
    """What sets an option of the library in a request."""
    return {"overwrite": "auto_cleanup: false"}.get(option, option)


def _field(each: Option, hint: Any) -> tuple[Any, Any]:
    """An option as pydantic declares it."""
    if each.name in _HTTP_TYPES:
        hint = _HTTP_TYPES[each.name]
    low, high = (bound if isfinite(bound) else None for bound in (each.low, each.high))
    if (low, high) != (None, None):
        hint = Annotated[each.kind, Field(ge=low, le=high)]
    said = each.sentence + (f" Null: {each.unset}." if each.is_optional else "")
    return (hint | None if each.is_optional else hint), Field(each.default, description=said)


_HTTP_TYPES: dict[str, Any] = {"render_exts": Matrices, "render_ixts": Matrices}  # of arrays in Python


def _offered(owner: type) -> dict[str, Option]:
    return {name: each for name, each in declared(owner).items() if "http" in each.faces}


_OPTIONS, _CAMERA_OPTIONS = _offered(SceneOptions), _offered(CameraOptions)

if TYPE_CHECKING:
    _Options = BaseModel
else:
    _Options = create_model(
        "_Options",
        **{name: _field(each, get_type_hints(SceneOptions)[name]) for name, each in _OPTIONS.items()},
        **{name: _field(each, get_type_hints(CameraOptions)[name]) for name, each in _CAMERA_OPTIONS.items()},
    )


class InferenceRequest(_Options):
    """Images of one scene on the backend's disk, and what is wanted of them.

    Also every option of `SceneOptions`, and of `CameraOptions` those that need no file.
    """

    model_config = ConfigDict(extra="forbid")

    image_paths: Annotated[
        list[str], Field(min_length=1, max_length=MAX_VIEWS, description="Files below an allowed folder.")
    ]
    export_dir: Annotated[
        str | None,
        Field(description="Folder of the results, below an allowed folder. Null: nothing is written."),
    ] = None
    export_format: Annotated[str, Field(description=_OPTIONS["export_format"].sentence)] = EXPORT_FORMATS["http"]
    extrinsics: Annotated[
        Matrices | None, Field(description="(N, 4, 4) or (N, 3, 4) world-to-camera, OpenCV axes. Null: not known.")
    ] = None
    intrinsics: Annotated[
        Matrices | None,
        Field(description="(N, 3, 3) in pixels of the files, pixel edges at integers. Null: not known."),
    ] = None
    auto_cleanup: Annotated[
        bool, Field(description="Empty an export folder that da3 wrote before; else its other files stay.")
    ] = False

    @model_validator(mode="after")
    def _check(self) -> InferenceRequest:
        options = self.scene_options()
        check_formats(options.export_format, **options.export_options())
        if any("image_names" in given for given in options.export_kwargs.values()):
            raise InputError("the option 'image_names' names files of the backend: leave it out, image_paths are taken")
        if self.camera_options().is_given and (self.intrinsics is not None or self.extrinsics is not None):
            raise InputError("intrinsics or extrinsics came with another way to tell the camera: leave one out")
        return self

    def camera_options(self) -> CameraOptions:
        """Raises InputError for several ways to tell the camera."""
        return CameraOptions(**{name: getattr(self, name) for name in _CAMERA_OPTIONS})

    def scene_options(self) -> SceneOptions:
        """Raises InputError for a value that is not allowed, and for matrices that are none."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return SceneOptions(**values | {name: as_array(values[name]) for name in _HTTP_TYPES})

    def about(self) -> dict[str, Any]:
        """What `TaskStatus` tells of it."""
        options = self.scene_options()
        return {
            "export_dir": self.export_dir,
            "request": self.model_dump(exclude={"extrinsics", "intrinsics", *_HTTP_TYPES}),
            "num_images": len(self.image_paths),
            "export_format": options.export_format,
            "process_res_method": options.process_res_method,
            "video_path": self.image_paths[0],
        }


class InferenceAnswer(BaseModel):
    """A task was accepted."""

    success: bool = True
    message: str
    task_id: str
    export_dir: str | None
    export_format: str
    processing_time: float | None = None


class WrittenFile(BaseModel):
    """A file of the results."""

    path: str
    bytes: int


class TaskResult(BaseModel):
    """What a completed inference found.

    Attributes:
        export_dir: the export folder with links followed, or null.
        files: all written files.
        formats: the same by export format.
        depth_shape: views, height, width.
        scale_factor: metres per network unit that was applied; null where none was.
        is_metric: whether depth is in metres.
        warning: what users of the result must be told, or null.
        left_out: what the files lack because views could not be placed in one map, or null.
        timings: seconds, by stage.
    """

    export_dir: str | None
    files: list[str]
    formats: dict[str, list[WrittenFile]]
    depth_shape: tuple[int, int, int]
    scale_factor: float | None
    is_metric: bool
    model: str
    weights_licence: str
    device: str
    warning: str | None
    left_out: str | None = None
    timings: dict[str, float]


class TaskStatus(BaseModel):
    """A task and how far it is; times are seconds since the epoch.

    Attributes:
        kind: `inference`, or `reload` of the model.
        progress: 0 to 1.
        queue_position: how many tasks come before it, the running one included; null once it runs.
        request: as it came, without matrices; null, as what follows, unless it is an inference.
        video_path: the first image; the name is historical.
    """

    task_id: str
    kind: Literal["inference", "reload"]
    status: State
    message: str
    progress: float | None
    queue_position: int | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    export_dir: str | None = None
    request: dict[str, Any] | None = None
    num_images: int | None = None
    export_format: str | None = None
    process_res_method: str | None = None
    video_path: str | None = None
    result: TaskResult | None = None


class TaskList(BaseModel):
    """All tasks that the backend remembers, oldest first."""

    tasks: list[TaskStatus]
    active_tasks: list[TaskStatus]
    completed_tasks: list[TaskStatus]
    active_count: int
    total_count: int


class GpuMemory(BaseModel):
    """Of the device that the model runs on; free is what the driver says, so other programs count."""

    total_gb: float
    allocated_gb: float
    reserved_gb: float
    free_gb: float
    utilization_percent: float


class GpuMemoryAnswer(BaseModel):
    """As `GpuMemory`, or why there is none."""

    available: bool
    message: str | None = None
    total_gb: float | None = None
    allocated_gb: float | None = None
    reserved_gb: float | None = None
    free_gb: float | None = None
    utilization_percent: float | None = None
    status: Literal["healthy", "warning", "critical"] | None = None


class BackendStatus(BaseModel):
    """The model of this backend; times in seconds.

    Attributes:
        model_dir: what the backend was started with.
        model: which one that is, once it was loaded.
        warning: what users of its results must be told, or null.
    """

    model_loaded: bool
    model_dir: str
    model: str | None
    warning: str | None
    device: str
    load_time: float | None
    last_used: float | None
    uptime: float
    gpu_memory: GpuMemory | None


class Message(BaseModel):
    """What was done."""

    message: str


class CleanupAnswer(Message):
    """What was done, and how many tasks are waiting or running."""

    active_tasks: int


class ReloadAnswer(Message):
    """Reloading waits its turn as a task."""

    task_id: str


class UploadAnswer(BaseModel):
    """Where uploaded images are, ready for `image_paths`, and a folder for their results."""

    upload_id: str
    image_paths: list[str]
    export_dir: str


class Health(BaseModel):
    """The backend answers."""

    status: Literal["ok"] = "ok"
