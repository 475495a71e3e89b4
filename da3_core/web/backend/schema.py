# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: requests, which refuse what they do not know, and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from da3_core.errors import InputError
from da3_core.options import InferenceOptions, PoseMethod, ProcessResMethod, RefViewStrategy
from da3_core.pipeline import SceneOptions

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


class InferenceRequest(BaseModel):
    """Images of one scene on the backend's disk, and what is wanted of them; see `SceneOptions` for what has no note.

    Attributes:
        image_paths: files below an allowed folder.
        export_dir: folder of the results, below an allowed folder; null computes without writing anything.
        extrinsics: `(N, 4, 4)` or `(N, 3, 4)` world-to-camera, OpenCV axes.
        intrinsics: `(N, 3, 3)` in pixels of the files, pixel edges at integers.
        auto_cleanup: empty an export folder that da3 wrote before; else its other files stay.
    """

    model_config = ConfigDict(extra="forbid")

    image_paths: Annotated[list[str], Field(min_length=1, max_length=MAX_VIEWS)]
    export_dir: str | None = None
    export_format: str = "mini_npz-glb"
    extrinsics: Matrices | None = None
    intrinsics: Matrices | None = None
    process_res: Annotated[int, Field(ge=14)] | None = InferenceOptions.process_res
    process_res_method: ProcessResMethod = InferenceOptions.process_res_method
    export_feat_layers: list[int] = []
    align_to_input_ext_scale: bool = InferenceOptions.align_to_input_ext_scale
    use_ray_pose: bool = InferenceOptions.use_ray_pose
    pose_method: PoseMethod = InferenceOptions.pose_method
    ref_view_strategy: RefViewStrategy = InferenceOptions.ref_view_strategy
    infer_gs: bool | None = None
    max_views_per_window: Annotated[int, Field(ge=2)] | None = None
    conf_thresh_percentile: Annotated[float, Field(ge=0, le=100)] | None = None
    num_max_points: Annotated[int, Field(ge=0)] | None = None
    show_cameras: bool | None = None
    feat_vis_fps: Annotated[int, Field(ge=1)] | None = None
    export_kwargs: dict[str, dict[str, Any]] = {}
    render_exts: Matrices | None = None
    render_ixts: Matrices | None = None
    render_hw: tuple[int, int] | None = None
    auto_cleanup: bool = False

    @model_validator(mode="after")
    def _check(self) -> InferenceRequest:
        self.scene_options()
        if any("image_names" in options for options in self.export_kwargs.values()):
            raise InputError("the option 'image_names' names files of the backend: leave it out, image_paths are taken")
        return self

    def scene_options(self) -> SceneOptions:
        """Raises InputError for a format that there is not, and for matrices that are none."""
        own = {"image_paths", "export_dir", "extrinsics", "intrinsics", "auto_cleanup"}
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in own}
        values["export_feat_layers"] = self.export_feat_layers or None
        values |= {name: as_array(values[name]) for name in ("render_exts", "render_ixts")}
        return SceneOptions(**values)

    def about(self) -> dict[str, Any]:
        """What `TaskStatus` tells of it."""
        return {
            "export_dir": self.export_dir,
            "request": self.model_dump(exclude={"extrinsics", "intrinsics", "render_exts", "render_ixts"}),
            "num_images": len(self.image_paths),
            "export_format": self.export_format,
            "process_res_method": self.process_res_method,
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
        caution: what users of the result must be told, or null.
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
    caution: str | None
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
        caution: what users of its results must be told, or null.
    """

    model_loaded: bool
    model_dir: str
    model: str | None
    caution: str | None
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
