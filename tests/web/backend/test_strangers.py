# SPDX-License-Identifier: Apache-2.0
"""What a command says where its backend fails, is no backend, is busy or points elsewhere: a server that misbehaves."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from da3_core.errors import InputError
from da3_core.web.backend.client import BackendClient, TaskFailedError

Answer = tuple[int, dict[str, str], bytes]


class Stranger(HTTPServer):
    """Gives prepared answers, one by one, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Stranger

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        code, headers, body = self.server.answers.pop(0)
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing, which keeps the output of the tests short."""


@pytest.fixture
def stranger() -> Iterator[Callable[..., Stranger]]:
    server = Stranger()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def make(*answers: Answer) -> Stranger:
        server.answers += answers
        return server

    yield make
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("body", [b"<html>a shop</html>", b"[]", b"\xff\xfe"])
def test_an_answer_that_no_backend_gives(stranger, body):
    it = stranger((200, {}, body))
    with pytest.raises(InputError, match="is no backend of da3"):
        BackendClient(it.url).status()


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"detail": "out of memory"}', "fails: out of memory"), (b"oops", "fails: 500 Internal Server")],
)
def test_a_backend_that_fails(stranger, body, said):
    with pytest.raises(TaskFailedError, match=said):
        BackendClient(stranger((500, {}, body)).url).status()


def test_a_token_that_is_missing(stranger):
    it = stranger((401, {}, b'{"detail": "no token"}'))
    with pytest.raises(InputError, match=r"refuses: no token \(.*DA3_BACKEND_TOKEN\)"):
        BackendClient(it.url, token="wrong").cancel("7")
    assert it.asked == [("DELETE", "/task/7", "Bearer wrong")]


def test_a_token_is_not_carried_to_where_a_redirect_points(stranger):
    it = stranger((302, {"Location": "/elsewhere"}, b""))
    with pytest.raises(InputError, match="refuses: 302"):
        BackendClient(it.url, token="secret").status()
    assert [path for _, path, _ in it.asked] == ["/status"]


def test_a_full_queue_is_asked_again(stranger, caplog):
    busy = (429, {"Retry-After": "0"}, b'{"detail": "the queue is full"}')
    it = stranger(busy, busy, (200, {}, json.dumps({"task_id": "t1"}).encode()))
    with caplog.at_level(logging.INFO, "da3_core"):
        assert BackendClient(it.url).submit({}) == "t1"
    assert [each.message for each in caplog.records] == ["the queue is full"] * 2


def test_a_task_that_the_backend_forgot(stranger):
    it = stranger((404, {}, b'{"detail": "there is no task t1"}'))
    with pytest.raises(TaskFailedError, match="there is no task t1"):
        BackendClient(it.url).next_status("t1")


def test_a_backend_that_is_away_for_a_moment(stranger):
    """A closed connection is no answer, and no reason to give a task up."""
    it = stranger((200, {}, b'{"status": "done"}'))
    closed = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    closed.server_close()
    client = BackendClient(it.url)
    client.url = f"http://127.0.0.1:{closed.server_port}"
    threading.Timer(0.5, lambda: setattr(client, "url", it.url)).start()
    assert client.next_status("t1") == {"status": "done"}


@pytest.mark.parametrize("url", ["localhost:8008", "http://", "http://localhost:http", "ftp://localhost"])
def test_what_is_no_address(url):
    with pytest.raises(InputError, match="the backend's URL is"):
        BackendClient(url)
