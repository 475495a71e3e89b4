# SPDX-License-Identifier: Apache-2.0
"""How files come to the app and leave it, instead of Gradio's own ways: under our limits, and never as a page."""

from __future__ import annotations

from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from da3_core.storage.allowed_folders import AllowedFolders, NotAllowedError
from da3_core.web.app.uploads import VisitorUploads
from da3_core.web.opened_file import OpenedFileResponse
from da3_core.web.uploads import FileTooLargeError, NoRoomError, caller_of

API = "/gradio_api"
VIEWER = "viewer/embed.html"  # the gallery's viewer, as a frame of the page
_VIEWER_FILES = Path(__file__).parents[1] / "gallery/static"
_VIEWER_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_VIEWER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'self'"
)
UPLOAD = f"{API}/upload"
MAX_FILES = 1000  # of one upload

# What a browser may show by itself. Whatever else a file claims to be, it is something to save.
_SHOWN = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".mp4": "video/mp4"}
_SAVED = {".glb": "model/gltf-binary", ".webm": "video/webm", ".mov": "video/quicktime", ".avi": "video/x-msvideo"}
# Ways of Gradio to move files, to run programs on them or to fetch addresses, which this app never uses.
_CLOSED = ("proxy={path:path}", "stream/{path:path}", "component_server", "component_server/", "process_recording")


def add_file_routes(server: FastAPI, folder: Path, uploads: VisitorUploads) -> None:
    """Add the routes; the first that fits a path is asked, so Gradio's must come later.

    Args:
        folder: where Gradio keeps what it shows, and below it `uploads`; no other file is given out.
    """
    allowed = AllowedFolders((folder,), "the app", "upload it again")

    async def upload(request: Request) -> Response:
        caller = caller_of(request.scope)
        async with request.form(max_files=MAX_FILES) as form:
            given = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
            try:
                paths = [await to_thread.run_sync(uploads.add, caller, one.filename or "", one.file) for one in given]
            except FileTooLargeError as error:
                raise HTTPException(413, str(error)) from error
            except NoRoomError as error:
                raise HTTPException(507, str(error)) from error
        return JSONResponse([str(path) for path in paths])

    async def progress(request: Request) -> Response:
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    def file(request: Request) -> Response:
        path = Path("/", request.path_params["path"])
        try:
            opened = allowed.open_file(path)
        except (OSError, ValueError, NotAllowedError):
            raise HTTPException(404, "there is no such file, or it is deleted by now") from None
        is_shown = path.suffix.lower() in _SHOWN and not path.is_relative_to(uploads.root)
        kind = (_SHOWN | _SAVED).get(path.suffix.lower(), "application/octet-stream")
        response = OpenedFileResponse(
            opened,
            media_type=kind,
            filename=path.name,
            content_disposition_type="inline" if is_shown else "attachment",
        )
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    async def viewer(request: Request) -> Response:
        path = _VIEWER_FILES / request.path_params["name"]
        if path not in _VIEWER_FILES.iterdir():
            raise HTTPException(404)
        headers = {"Content-Security-Policy": _VIEWER_POLICY, "Cache-Control": "no-cache"}
        return FileResponse(path, headers=headers, media_type=_VIEWER_TYPES[path.suffix])

    async def closed(request: Request) -> Response:
        raise HTTPException(404)

    server.add_route("/viewer/{name}", viewer, ["GET"])
    server.add_route(UPLOAD, upload, ["POST"])
    server.add_route(f"{API}/upload_progress", progress, ["GET"])
    for path in ("file={path:path}", "file/{path:path}"):
        server.add_route(f"{API}/{path}", file, ["GET"])
    for path in _CLOSED:
        server.add_route(f"{API}/{path}", closed, ["GET", "POST"])
