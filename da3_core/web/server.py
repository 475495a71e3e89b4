# SPDX-License-Identifier: Apache-2.0
"""An HTTP application on a port of this machine: where it listens, which names it answers to, how it ends."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from da3_core.errors import InputError, OptionError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SECONDS_FOR_OPEN_REQUESTS = 3


class PortError(OptionError):
    """The system does not let this process listen there."""


def require_service_packages(purpose: str) -> None:
    """
    Raises:
        InputError: a package of the extra `service` is missing; `purpose` begins the sentence.
    """
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise InputError(
                f"{purpose} needs the package {package!r}, which is not installed: pip install 'da3_ros[service]'"
            )


def listen(host: str, port: int) -> socket.socket:
    """A socket on which connections queue from now on.

    Args:
        host: an address or a name of this machine.
        port: 0 takes any free one.

    Raises:
        PortError: it is taken, not permitted or not of this machine.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # Connections inherit it; else the second part of an answer waits 40 ms until the first is acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or "no valid name").partition(" (")[0]
        raise PortError(
            "cannot listen on {address!r}, port {number} ({reason}): give another {host} or {port}",
            address=host,
            number=port,
            reason=reason,
        ) from error


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it, with a slash at the end."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _for_names(app: ASGIApp, names: Iterable[str]) -> ASGIApp:
    """The application, for requests whose Host header has one of these names or addresses."""
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse

    allowed = {name.lower() for name in names}

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        answer = app
        if scope["type"] != "lifespan" and host_name(Headers(scope=scope).get("host", "")) not in allowed:
            answer = PlainTextResponse("this is no name of this machine: ask by its address", 400)
        await answer(scope, receive, send)

    return checked


def host_name(host: str) -> str | None:
    """`LOCALHOST:8007` -> `localhost`, `[::1]:8007` -> `::1`; None where it is neither."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def serve(
    app: ASGIApp,
    listener: socket.socket,
    further_names: Sequence[str] = (),
    end_streams: Callable[[], object] = lambda: None,
) -> None:
    """Answer requests until SIGTERM ends the process, or Ctrl-C ends this call as a KeyboardInterrupt.

    On a loopback address only requests for this machine's own names are answered: a page of somewhere else whose name
    was pointed here (DNS rebinding) gets nothing.

    Args:
        further_names: host names of a tunnel that leads here.
        end_streams: called within the event loop when the end has come, to finish answers that would go on for ever.
    """
    import uvicorn

    if is_loopback(listener):
        app = _for_names(app, ["localhost", "127.0.0.1", "::1", listener.getsockname()[0], *further_names])
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SECONDS_FOR_OPEN_REQUESTS,
    )

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            end_streams()
            await super().shutdown(sockets)

    Server(config).run([listener])
