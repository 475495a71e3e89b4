# SPDX-License-Identifier: Apache-2.0
"""A backend from the other side: what a command asks of it. Needs nothing but the standard library."""

from __future__ import annotations

import ipaddress
import json
import logging
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

from da3_core.errors import InputError, OptionError
from da3_core.web.backend.token import find_token

_STATUS_SECONDS, _SUBMIT_SECONDS, _ASK_SECONDS = 5.0, 30.0, 10.0
_LOST_SECONDS = 15.0  # for which a backend may be unreachable while a task runs
_PAUSE_SECONDS = 0.2
_BUSY_SECONDS = 10  # until a full queue is asked again, unless the backend says when

logger = logging.getLogger(__name__)


class TaskFailedError(Exception):
    """A backend could not do what it was asked for, or cannot be reached to tell."""


class BackendClient:
    """Talks to one backend.

    Every method raises InputError where the backend refuses or does not answer, and TaskFailedError where it fails.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        """
        Args:
            url: such as `http://localhost:8008`.
            token: what the backend asks for; by default what a backend of the same user on this machine made up.
        """
        parts = urlsplit(url)
        try:
            is_complete = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            is_complete = False
        if not is_complete:
            raise InputError(f"the backend's URL is {url!r}: write it as http://localhost:8008")
        self.url = url.rstrip("/")
        is_here = _is_this_machine(parts.hostname or "")
        self._token = token or (find_token(parts.port or 80) if is_here else None)
        # A proxy is for the world outside; a redirect would carry the token elsewhere.
        proxies = [urllib.request.ProxyHandler({})] if is_here else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        return self._ask("GET", "/status", _STATUS_SECONDS)

    def submit(self, request: dict[str, Any]) -> str:
        """The id of the task that was made of the request; while the queue is full, it is asked again."""
        while True:
            try:
                return str(self._ask("POST", "/inference", _SUBMIT_SECONDS, request)["task_id"])
            except _BusyError as error:
                logger.info(str(error))
                time.sleep(error.retry_after)

    def task(self, task_id: str) -> dict[str, Any]:
        """What `/task/ID` says."""
        return self._ask("GET", f"/task/{task_id}", _ASK_SECONDS)

    def cancel(self, task_id: str) -> None:
        """Cancel a task that waits or runs."""
        self._ask("DELETE", f"/task/{task_id}", _STATUS_SECONDS)

    def next_status(self, task_id: str) -> dict[str, Any]:
        """As `task`, a moment later; bears with a backend that is away for seconds.

        Raises:
            TaskFailedError: it stayed away, or forgot the task.
        """
        latest = time.monotonic() + _LOST_SECONDS
        while True:
            time.sleep(_PAUSE_SECONDS)
            try:
                return self.task(task_id)
            except _UnreachableError as error:
                if time.monotonic() > latest:
                    raise _LostError(
                        "{error}; whether task {task} is done is not known", error=error, task=task_id
                    ) from error
            except InputError as error:
                raise _LostError("{error}", error=error) from error

    def _ask(self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=seconds) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 429:
                raise _BusyError(_detail(error), error.headers.get("Retry-After", "")) from error
            if error.code >= 500:
                raise TaskFailedError(f"the backend at {self.url} fails: {_detail(error)}") from error
            raise OptionError(
                "the backend at {url} refuses: {detail}"
                + (" ({backend_token}, or DA3_BACKEND_TOKEN)" if error.code == 401 else ""),
                url=self.url,
                detail=_detail(error),
            ) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _UnreachableError(
                "no backend is running at {url} ({reason}): start one with `da3 backend`, or give {backend_url}",
                url=self.url,
                reason=reason,
            ) from error
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _stranger(self) -> OptionError:
        return OptionError("what answers at {url} is no backend of da3: give another {backend_url}", url=self.url)


class _UnreachableError(OptionError):
    """Nobody answers."""


class _LostError(TaskFailedError, OptionError):
    """The backend cannot tell what became of a task."""


class _BusyError(InputError):
    """The backend takes no tasks now, but soon."""

    def __init__(self, sentence: str, retry_after: str) -> None:
        super().__init__(sentence)
        self.retry_after = int(retry_after) if retry_after.isdecimal() else _BUSY_SECONDS


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _detail(error: urllib.error.HTTPError) -> str:
    """The sentence of a refusal."""
    try:
        return str(json.load(error)["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
