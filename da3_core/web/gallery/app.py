# SPDX-License-Identifier: Apache-2.0
"""The gallery over HTTP: its page, what groups and scenes there are, and the files of scenes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.staticfiles import NotModifiedResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from da3_core.web.gallery.glb import count_points
from da3_core.web.gallery.scenes import MEDIA_TYPES, Gallery, GalleryScene
from da3_core.web.opened_file import OpenedFileResponse

_STATIC = Path(__file__).parent / "static"
_PAGE_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_FRESH = {"Cache-Control": "no-store"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def make_app(root: Path, prefix: str) -> Starlette:
    """See `da3_core.web.gallery.gallery_app`."""
    gallery = Gallery(root)

    def url(path: Path) -> str:
        return prefix + "/" + "/".join(quote(name, safe="") for name in path.parts)

    def groups(request: Request) -> Response:
        listed = [{"id": group.id, "title": group.title} for group in gallery.groups()]
        return JSONResponse({"groups": listed}, 200, _FRESH)

    def scenes(request: Request) -> Response:
        return of_group(request, manifest_item)

    def details(request: Request) -> Response:
        return of_group(request, details_item)

    def of_group(request: Request, item: Callable[[GalleryScene], dict[str, Any]]) -> Response:
        group = request.path_params["group"]
        if "/" in group or "\\" in group or group in (".", ".."):
            raise HTTPException(400, f"{group!r} is no name of a group: it is a single folder's name")
        items = [item(scene) for scene in gallery.scenes(group)]
        return JSONResponse({"group": group, "items": items}, 200, _FRESH)

    def manifest_item(scene: GalleryScene) -> dict[str, Any]:
        return {
            "id": scene.id,
            "title": scene.title,
            "model": url(scene.model),
            "thumbnail": url(scene.thumbnail),
            "depth_images": [url(image) for image in gallery.depth_images(scene)],
        }

    def details_item(scene: GalleryScene) -> dict[str, Any]:
        files, points = [], None
        for path in (scene.model, *gallery.downloads(scene)):
            opened = gallery.open_file(path.as_posix())
            if opened is None:  # gone, or become a link just now
                continue
            with opened:
                size = os.fstat(opened.fileno()).st_size
                points = count_points(opened) if path == scene.model else points
            files.append({"name": path.relative_to(scene.path).as_posix(), "url": url(path), "bytes": size})
        return {"id": scene.id, "points": points, "files": files}

    def file(request: Request) -> Response:
        path = request.path_params["path"]
        opened = gallery.open_file(path)
        if opened is None:
            raise HTTPException(404, "no file of a scene; listing disabled")
        headers = {"Cache-Control": "no-cache"}  # kept, but asked about: scenes are exported anew
        media_type = MEDIA_TYPES[Path(path).suffix.lower()]
        response = OpenedFileResponse(opened, headers=headers, media_type=media_type)
        if request.headers.get("if-none-match") == response.headers["etag"]:
            opened.close()
            return NotModifiedResponse(response.headers)
        return response

    return Starlette(
        routes=[
            Route("/", partial(_page, _STATIC / "index.html")),
            *(Route(f"/{path.name}", partial(_page, path)) for path in sorted(_STATIC.iterdir())),
            Route("/manifest.json", groups),
            Route("/manifest/{group:path}.json", scenes),
            Route("/details/{group:path}.json", details),
            Route("/favicon.ico", lambda request: Response(status_code=204)),
            Route("/{path:path}", file),
        ],
        middleware=[Middleware(_SafeHeaders)],
    )


def _page(path: Path, request: Request) -> Response:
    return FileResponse(path, headers=_FRESH, media_type=_PAGE_MEDIA_TYPES[path.suffix])


class _SafeHeaders:
    """Says with every answer that the page needs nothing from elsewhere and nobody else needs it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"]).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
