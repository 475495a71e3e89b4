# SPDX-License-Identifier: Apache-2.0
"""Who may ask: the checks that every request passes before anything looks at it."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from da3_core.web.server import host_name

OPEN_PATHS = ("/healthz",)  # tell nothing, so they need no token
_READING = ("GET", "HEAD", "OPTIONS")


class Guard:
    """An application around another one that passes on only what should reach it.

    - The Host header is an address or a name of this machine: a page whose name was pointed here after it was loaded
      (DNS rebinding) gets nothing.
    - A browser's request that changes something comes from a page of this server.
    - It carries the token: `Authorization: Bearer TOKEN`, or as the password that a browser asks for.
    - Its body is no longer than allowed.
    """

    def __init__(
        self, app: ASGIApp, *, names: Iterable[str] = (), token: str | None = None, body_limits: dict[str, int]
    ) -> None:
        """
        Args:
            app: what is guarded.
            names: host names besides `localhost` and this machine's own.
            token: None lets everybody in.
            body_limits: bytes, by path; that of "" is for all others.
        """
        self._app = app
        own = socket.gethostname()
        self._names = {name.lower() for name in ("localhost", own, f"{own}.local", *names)}
        self._token = token
        self._body_limits = body_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nobody here speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _limited(receive, self._limit(scope)), _with_safe_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return _refuse(400, f"the host {host!r} is not known here: ask by address, or have the server allow it")
        origin = headers.get("origin")
        if origin and scope["method"] not in _READING and _netloc(origin) != host.lower():
            return _refuse(403, f"pages of {origin!r} may not use this server")
        if self._token and scope["path"] not in OPEN_PATHS and not self._has_token(headers.get("authorization", "")):
            message = "no valid token: send 'Authorization: Bearer TOKEN'"
            return _refuse(401, message, {"WWW-Authenticate": 'Basic realm="da3: any name, the token as password"'})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit(scope):
            return _refuse(413, _too_long(self._limit(scope)))
        return None

    def _limit(self, scope: Scope) -> int:
        return self._body_limits.get(scope["path"], self._body_limits[""])

    def _is_ours(self, host: str) -> bool:
        name = host_name(host) or ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # an address, which no name server can point elsewhere

    def _has_token(self, authorization: str) -> bool:
        assert self._token
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.encode(), self._token.encode())


def _netloc(origin: str) -> str | None:
    """Host and port of a page; None where there is no telling."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_long(limit))
        return message

    return limited


def _with_safe_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            for name, value in ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")):
                if name not in present:
                    message["headers"].append((name, value))
        await send(message)

    return send_with_headers


def _too_long(limit: int) -> str:
    return f"the request is longer than the {limit} bytes that are allowed"


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
