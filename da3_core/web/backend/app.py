# SPDX-License-Identifier: Apache-2.0
"""The HTTP face of the backend: every path, what it takes and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from da3_core.errors import InputError
from da3_core.storage.allowed_folders import NotAllowedError
from da3_core.web.backend import pages
from da3_core.web.backend.backend import Backend, memory_health
from da3_core.web.backend.schema import (
    BackendStatus,
    CleanupAnswer,
    GpuMemoryAnswer,
    Health,
    InferenceAnswer,
    InferenceRequest,
    Message,
    ReloadAnswer,
    TaskList,
    TaskStatus,
    UploadAnswer,
    field_of,
)
from da3_core.web.backend.store import StoreError
from da3_core.web.backend.tasks import QueueFullError, StoppingError, UnknownTaskError
from da3_core.web.gallery import gallery_app
from da3_core.web.guard import Guard
from da3_core.web.opened_file import OpenedFileResponse
from da3_core.web.uploads import FORM_BYTES, CountedBodies, FileTooLargeError, NoRoomError, caller_of

MAX_REQUEST_BYTES = 16 << 20  # of JSON; paths and cameras of 20 000 views fit


def guarded_app(
    backend: Backend, gallery_dir: Path | None, *, names: Iterable[str] = (), token: str | None = None
) -> ASGIApp:
    """The application that a server runs; it starts and stops `backend`.

    Args:
        backend: what does the work.
        gallery_dir: shown below `/gallery/`; None shows none.
        names, token: see `Guard`.
    """
    uploads = backend.options.upload_limits
    limits = {"": MAX_REQUEST_BYTES, "/upload": uploads.caller + FORM_BYTES}
    app = CountedBodies(_app(backend, gallery_dir), "/upload", uploads)
    return Guard(app, names=names, token=token, body_limits=limits)


def _app(backend: Backend, gallery_dir: Path | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        await to_thread.run_sync(backend.stop)

    # FastAPI's own pages of documentation fetch scripts from elsewhere; see `pages.interface`.
    app = FastAPI(title="Depth Anything 3 Backend", version="1.0.0", lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_error_handlers(app)
    _add_pages(app, backend, gallery_dir is not None)
    _add_tasks(app, backend)
    _add_model(app, backend)
    if gallery_dir is not None:
        app.mount("/gallery", gallery_app(gallery_dir, "/gallery"))
    return app


def _add_tasks(app: FastAPI, backend: Backend) -> None:
    tasks = backend.tasks

    @app.post("/inference")
    def submit(request: InferenceRequest) -> InferenceAnswer:
        """Queue an inference; its task tells how far it is."""
        task_id = backend.submit(request)
        return InferenceAnswer(
            message="accepted", task_id=task_id, export_dir=request.export_dir, export_format=request.export_format
        )

    @app.get("/task/{task_id}")
    def task(task_id: str) -> TaskStatus:
        """A task and how far it is."""
        return tasks.status(task_id)

    @app.delete("/task/{task_id}")
    def cancel(task_id: str) -> Message:
        """Cancel a task that waits or runs; forget one that is finished."""
        return Message(message=tasks.cancel_or_forget(task_id))

    @app.get("/task/{task_id}/files/{path:path}", response_class=FileResponse)
    def file(task_id: str, path: str) -> FileResponse:
        """A file of a task's results, by its path within the export folder."""
        result = tasks.status(task_id).result
        written = result is not None and result.export_dir is not None and str(Path(result.export_dir, path))
        gone = HTTPException(404, f"task {task_id} wrote no file {path!r}, or it is gone")
        if not written or result is None or written not in result.files:
            raise gone
        try:
            opened = backend.folders.open_file(Path(written))
        except (OSError, NotAllowedError):
            raise gone from None
        return OpenedFileResponse(opened, filename=Path(written).name)

    @app.get("/task/{task_id}/thumbnail", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def thumbnail(task_id: str) -> Response:
        """The first image of a task, small."""
        jpeg = backend.thumbnail(tasks.status(task_id))
        if jpeg is None:
            raise HTTPException(404, f"task {task_id} has no image, or it is gone")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/tasks")
    def all_tasks() -> TaskList:
        """All tasks that are remembered."""
        statuses = tasks.statuses()
        active = [status for status in statuses if status.completed_at is None]
        return TaskList(
            tasks=statuses,
            active_tasks=active,
            completed_tasks=[status for status in statuses if status.completed_at is not None],
            active_count=len(active),
            total_count=len(statuses),
        )

    @app.post("/cleanup")
    def clean_up() -> CleanupAnswer:
        """Forget finished tasks that are old."""
        return CleanupAnswer(message="old tasks are forgotten", active_tasks=backend.clean_up())

    @app.post("/upload")
    def upload(images: list[UploadFile], request: Request) -> UploadAnswer:
        """Leave images of a scene here; the answer goes into `/inference`."""
        files = [(image.filename or "", image.file) for image in images]
        upload_id, paths, results = backend.upload(files, caller_of(request.scope))
        return UploadAnswer(upload_id=upload_id, image_paths=[str(path) for path in paths], export_dir=str(results))


def _add_model(app: FastAPI, backend: Backend) -> None:
    @app.get("/status")
    def status() -> BackendStatus:
        """The model of this backend."""
        return backend.status()

    @app.get("/healthz")
    async def health() -> Health:
        """That the backend answers; needs no token."""
        return Health()

    @app.post("/reload")
    def reload() -> ReloadAnswer:
        """Load the model anew when those before have had their turn."""
        return ReloadAnswer(message="the model will be loaded anew", task_id=backend.submit_reload())

    @app.get("/gpu-memory", response_model_exclude_none=True)
    def gpu_memory() -> GpuMemoryAnswer:
        """Memory of the GPU that the model runs on."""
        memory = backend.gpu_memory()
        if memory is None:
            return GpuMemoryAnswer(available=False, message=f"the model runs on {backend.runner.device}")
        return GpuMemoryAnswer(available=True, **memory.model_dump(), status=memory_health(memory))


def _add_pages(app: FastAPI, backend: Backend, has_gallery: bool) -> None:
    @app.get("/", include_in_schema=False)
    async def start_page() -> HTMLResponse:
        return HTMLResponse(pages.start_page(has_gallery), headers=pages.HEADERS)

    @app.get("/docs", include_in_schema=False)
    @app.get("/redoc", include_in_schema=False)
    async def interface() -> HTMLResponse:
        return HTMLResponse(pages.interface(app.openapi()), headers=pages.HEADERS)

    @app.get("/dashboard", include_in_schema=False)
    def dashboard(refresh: str = "") -> HTMLResponse:
        html = pages.dashboard(backend.status(), backend.tasks.statuses(), refresh == "on", has_gallery)
        return HTMLResponse(html, headers=pages.HEADERS)

    @app.get("/dashboard.js", include_in_schema=False)
    async def script() -> FileResponse:
        return FileResponse(pages.SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204)


def _add_error_handlers(app: FastAPI) -> None:
    """One sentence each, in the place where FastAPI puts its own."""

    def answer(status: int) -> object:
        def handle(request: Request, error: Exception) -> Response:
            sentence = error.spelled(field_of) if isinstance(error, InputError) else str(error)
            headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else None
            return JSONResponse({"detail": sentence}, status, headers)

        return handle

    statuses: dict[type[Exception], int] = {
        InputError: 422,
        NotAllowedError: 403,
        QueueFullError: 429,
        StoppingError: 503,
        FileTooLargeError: 413,
        NoRoomError: 507,
        StoreError: 507,
    }
    for error, status in statuses.items():
        app.add_exception_handler(error, answer(status))  # type: ignore[arg-type]

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        return JSONResponse({"detail": "; ".join(map(_describe, problems[:5])) + more}, 422)

    @app.exception_handler(UnknownTaskError)
    def unknown(request: Request, error: UnknownTaskError) -> Response:
        return JSONResponse({"detail": str(error)}, 410 if error.was_dropped else 404)


def _describe(problem: dict[str, Any]) -> str:
    """What pydantic found, in words for a person."""
    place = ".".join(map(str, problem["loc"][1:]))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "there is no such field"
    sentence = f"{place}: {message}" if place else message
    return sentence.encode(errors="backslashreplace").decode()  # JSON may hold halves of characters
