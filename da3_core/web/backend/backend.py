# SPDX-License-Identifier: Apache-2.0
"""The backend without its HTTP face: the model, the tasks, the folders, and the timer that clears up behind them."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL import ImageOps
from pydantic import ValidationError

from da3_core.errors import InputError, OptionError
from da3_core.formats.image_files import open_image_file
from da3_core.storage.allowed_folders import IMAGE_FORMATS, AllowedFolders
from da3_core.storage.opened_folder import OpenedFolder, opened
from da3_core.storage.staging import own_folder
from da3_core.web.backend.schema import BackendStatus, GpuMemory, InferenceRequest, TaskResult, TaskStatus
from da3_core.web.backend.store import TaskStore
from da3_core.web.backend.tasks import Kind, Progress, TaskQueue, Work
from da3_core.web.backend.uploads import Uploads
from da3_core.web.backend.work import TaskLimits, check, infer, make_job
from da3_core.web.model_runner import ModelRunner
from da3_core.web.uploads import UploadLimits

HOUSEKEEPING_SECONDS = 1.0
STOPPING_SECONDS = 10.0  # for the running task
THUMBNAIL = (320, 240)  # pixels at most


@dataclass(frozen=True)
class BackendOptions:
    """How a backend serves.

    Attributes:
        allow_root: folders in which callers may read and write.
        queue_size: most tasks that wait.
        retention_seconds: how long finished tasks and their uploads are kept.
        upload_limits: bytes that uploaded images may take.
        task_limits: what a task may take.
        state_dir: folder of tasks and uploads, which the next backend there goes on with; None forgets them.
    """

    allow_root: Sequence[Path]
    queue_size: int = 100
    retention_seconds: float = 600.0
    upload_limits: UploadLimits = field(default_factory=UploadLimits)
    task_limits: TaskLimits = field(default_factory=TaskLimits)
    state_dir: Path | None = None


class Backend:
    """Works from `start` to `stop`; every method may be called from any thread."""

    def __init__(self, runner: ModelRunner, options: BackendOptions) -> None:
        """
        Raises:
            InputError: an allowed folder is none, or the state folder cannot be used.
        """
        AllowedFolders.of_backend(options.allow_root)  # before a folder for uploads is made
        self.runner = runner
        self.options = options
        self._state = ExitStack()
        state = self._state.enter_context(_state_folder(options.state_dir))
        store = TaskStore(state / "tasks.sqlite")
        self._state.callback(store.close)
        self.uploads = Uploads(state / "uploads", options.upload_limits)
        self.folders = AllowedFolders.of_backend([*options.allow_root, self.uploads.root])
        self.tasks = TaskQueue(
            size=options.queue_size,
            retention_seconds=options.retention_seconds,
            limit_seconds=options.task_limits.seconds,
            store=store,
        )
        self.tasks.restore(self._remake)
        self._remove_unused_uploads(0)
        self._ended = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)

    def start(self) -> None:
        self.tasks.start()
        self._housekeeper.start()

    @property
    def has_ended(self) -> bool:
        """Whether no thread works any more."""
        return self.tasks.has_ended

    def stop(self) -> None:
        """End well: no task stays without an end, uploads are deleted."""
        self._ended.set()
        self.tasks.stop(STOPPING_SECONDS)
        if self.has_ended:
            self._state.close()

    def submit(self, request: InferenceRequest) -> str:
        """The id of the new task.

        Raises:
            InputError, NotAllowedError, QueueFullError, StoppingError: see `work.check` and `TaskQueue.submit`.
        """
        check(request, self.folders, self.runner, self.options.task_limits)
        return self.tasks.submit(self._work(request), request.about(), request=request.model_dump_json())

    def submit_reload(self) -> str:
        """The id of a task that loads the model anew when its turn comes."""
        return self.tasks.submit(self._reload, kind="reload")

    def upload(self, images: Sequence[tuple[str, BinaryIO]], caller: str = "") -> tuple[str, list[Path], Path]:
        """See `Uploads.add`."""
        return self.uploads.add(images, caller)

    def thumbnail(self, task: TaskStatus) -> bytes | None:
        """The first image of a task as a small JPEG; None where it has none, or none that can be read by now."""
        paths = (task.request or {}).get("image_paths")
        if not paths:
            return None
        try:
            with open_image_file(self.folders.input_image(paths[0]), IMAGE_FORMATS) as image:
                image.draft("RGB", THUMBNAIL)  # a JPEG is decoded small
                image.thumbnail(THUMBNAIL)
                written = io.BytesIO()
                ImageOps.exif_transpose(image).convert("RGB").save(written, "JPEG")
        except Exception:  # a decoder raises almost anything
            return None
        return written.getvalue()

    def clean_up(self) -> int:
        """Forget what is old; how many tasks wait or run."""
        active = self.tasks.drop_old()
        self._remove_unused_uploads(self.options.retention_seconds)
        return active

    def status(self) -> BackendStatus:
        state, runner = self.runner.state, self.runner
        return BackendStatus(
            model_loaded=runner.is_loaded,
            model_dir=runner.source,
            model=state.preset.name if state.preset else None,
            warning=state.warning,
            device=str(runner.device),
            load_time=state.load_seconds,
            last_used=state.last_used,
            uptime=time.time() - state.loaded_at if state.loaded_at else 0.0,
            gpu_memory=self.gpu_memory(),
        )

    def gpu_memory(self) -> GpuMemory | None:
        """None unless the model runs on CUDA."""
        device = self.runner.device
        if device.type != "cuda":
            return None
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return GpuMemory(
            total_gb=total / 1e9,
            allocated_gb=torch.cuda.memory_allocated(device) / 1e9,
            reserved_gb=torch.cuda.memory_reserved(device) / 1e9,
            free_gb=free / 1e9,
            utilization_percent=100 * (total - free) / total,
        )

    def _remove_unused_uploads(self, older_than_seconds: float) -> None:
        used = [path for task in self.tasks.statuses() for path in (task.request or {}).get("image_paths", [])]
        self.uploads.remove_unused(used, older_than_seconds)

    def _work(self, request: InferenceRequest) -> Work:
        return lambda progress: infer(make_job(request), self.folders, self.runner, progress)

    def _remake(self, kind: Kind, stored: str) -> tuple[Work, dict[str, Any]]:
        """See `TaskQueue.restore`."""
        if kind == "reload":
            return self._reload, {}
        try:
            request = InferenceRequest.model_validate_json(stored)
        except ValidationError as error:
            raise InputError("this version of the backend does not know such requests: send it again") from error
        return self._work(request), request.about()

    def _reload(self, progress: Progress) -> TaskResult | None:
        progress.report(f"loading {self.runner.source}", 0.1)
        self.runner.reload()
        return None

    def _keep_house(self) -> None:
        while not self._ended.wait(HOUSEKEEPING_SECONDS):
            self.clean_up()


@contextmanager
def _state_folder(given: Path | None) -> Iterator[Path]:
    """A folder for one backend at a time; one that is gone afterwards where none is given.

    Raises:
        InputError: it cannot be made, or another backend uses it.
    """
    if given is None:
        place = Path(os.path.realpath(tempfile.gettempdir()))
        with opened(place) as parent, own_folder(parent, "da3-backend-", 0o700) as folder:
            yield place / folder.name
        return
    try:
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = OpenedFolder.at(Path(os.path.realpath(given)))
    except OSError as error:
        raise OptionError(
            "{state_dir}: cannot use the folder {folder} ({reason}): give another",
            folder=given,
            reason=error.strerror,
        ) from error
    with folder:
        try:
            folder.lock()
        except BlockingIOError as error:
            raise OptionError(
                "another backend keeps its tasks in {folder}: give another {state_dir}", folder=given
            ) from error
        yield Path(os.path.realpath(given))


def memory_health(memory: GpuMemory) -> Literal["healthy", "warning", "critical"]:
    """In a word."""
    used = memory.utilization_percent
    return "healthy" if used < 80 else "warning" if used < 95 else "critical"
