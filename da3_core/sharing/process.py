# SPDX-License-Identifier: Apache-2.0
"""The process that holds a model for others: it answers one after the other, and ends when the last has gone.

`python -m da3_core.sharing.process NAME`, with the options of the model as JSON on standard input, returns once a
process of that name listens, which goes on in the background. `SharedModel` starts it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from da3_core import __version__
from da3_core.errors import ImageError, InputError
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.sharing.place import Place
from da3_core.sharing.wire import receive, send
from da3_core.stream.prediction_file import to_bytes

LINGER_S = 5.0  # without anybody who is connected, so that a node may be configured again
POLL_S = 0.2
BEAT_S = 1.0  # between two words to who waits, that this process is at work

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What the process says of its model, see `DepthAnything3`, and of itself."""

    preset: str
    source: str
    engine_status: str
    precision_status: str
    device: str
    warning: str | None
    process: int
    clients: int


def load_model(options: ModelOptions) -> Any:
    """A `DepthAnything3`."""
    from da3_core.api import DepthAnything3

    return DepthAnything3.from_options(options)


class ModelProcess:
    """Serves a model until nobody wants it any more.

    Args:
        load: returns the model; called in the one thread that touches it.
        options: of the model. Who wants others is refused.
    """

    def __init__(self, load: Callable[[ModelOptions], Any], options: ModelOptions) -> None:
        self._options = options
        self._in_turn = ThreadPoolExecutor(1, "da3_model")
        self._loading = self._in_turn.submit(load, options)
        self._changed = threading.Lock()
        self._clients: list[threading.Thread] = []
        self._last_s = time.monotonic()
        self._has_told = False  # why there is no model

    def serve(self, listener: socket.socket) -> None:
        """Let clients in until there has been none for `LINGER_S`, or one was told why there is no model."""
        listener.settimeout(POLL_S)
        while not self._is_over():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                client = threading.Thread(target=self._attend, args=(connection,), daemon=True)
                with self._changed:
                    self._clients.append(client)
                client.start()
        self._in_turn.shutdown()

    def _is_over(self) -> bool:
        with self._changed:
            return not self._clients and (self._has_told or time.monotonic() - self._last_s > LINGER_S)

    def _attend(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):  # it has gone
                self._talk(connection)
        finally:
            with self._changed:
                self._clients.remove(threading.current_thread())
                self._last_s = time.monotonic()

    def _talk(self, connection: socket.socket) -> None:
        hello, _ = receive(connection)
        try:
            self._check(hello)
        except InputError as refusal:
            send(connection, {"error": told(refusal)})
            return
        try:
            model = _awaited(self._loading, connection)
        except Exception as error:  # whatever loading can raise: who waits is told
            send(connection, {"error": told(error)})
            self._has_told = True
            return
        send(connection, {"facts": self._facts(model)})
        kept = model.kept_views()
        while True:
            question, arrays = receive(connection)
            try:
                answer = _awaited(self._in_turn.submit(_infer, model, kept, question, arrays), connection)
            except Exception as error:  # whatever a model can raise: it concerns who asked, and nobody else
                send(connection, {"error": told(error), "facts": self._facts(model)})
            else:
                send(connection, {"facts": self._facts(model)}, [answer])

    def _check(self, hello: dict[str, Any]) -> None:
        if hello.get("version") != __version__:
            raise InputError(f"it runs da3_core {__version__}, and {hello.get('version')} asks; end all that share it")
        asked, held = hello["options"], asdict(self._options)
        others = [f"{name} is {value!r}, not {asked[name]!r}" for name, value in held.items() if asked[name] != value]
        if others:
            raise InputError(f"it holds another model ({', '.join(others)}); name another process, or the same model")

    def _facts(self, model: Any) -> dict[str, Any]:
        facts = Facts(
            preset=model.preset.name,
            source=str(model.source),
            engine_status=model.engine_status,
            precision_status=model.precision_status,
            device=str(model.device),
            warning=model.warning,
            process=os.getpid(),
            clients=len(self._clients),
        )
        return asdict(facts)


def _awaited(result: Future[T], connection: socket.socket) -> T:
    """The result, which the other end waits for and is told to go on waiting for."""
    while not wait([result], BEAT_S).done:
        send(connection, {"at_work": True})
    return result.result()


def _infer(model: Any, kept: Any, question: dict[str, Any], arrays: list[np.ndarray]) -> np.ndarray:
    """What `DepthAnything3.predict` says, as bytes."""
    images, cameras = arrays[: question["images"]], arrays[question["images"] :]
    options = question["options"]
    prediction = model.predict(
        images,
        InferenceOptions(**options | {"export_feat_layers": tuple(options["export_feat_layers"])}),
        **dict(zip(question["cameras"], cameras, strict=True)),
        known=kept.known(question["names"]),
        decoded=question["decoded"],
    )
    return np.frombuffer(to_bytes(prediction), np.uint8)


def told(error: Exception) -> dict[str, Any]:
    """An exception for JSON; `raised` is its counterpart."""
    if isinstance(error, ImageError):
        return {"kind": "image", "text": str(error), "index": error.index}
    if isinstance(error, InputError):
        return {"kind": "input", "text": str(error)}
    logger.error("an inference or the model failed", exc_info=error)
    return {"kind": type(error).__name__, "text": str(error)}


def raised(error: dict[str, Any]) -> Exception:
    """What another process told."""
    if error["kind"] == "image":
        return ImageError(error["index"], error["text"])
    return InputError(error["text"]) if error["kind"] == "input" else RuntimeError(f"{error['kind']}: {error['text']}")


def main(load: Callable[[ModelOptions], Any] = load_model) -> None:
    """Begin to listen, and go on in the background; or return because another process does already."""
    os.umask(0o077)
    place, options = Place.of(sys.argv[1]), ModelOptions(**json.load(sys.stdin))
    with place.held() as listener:
        if listener is None:
            return
        if os.fork():
            os._exit(0)  # who started this may connect now
        os.setsid()
        log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (0, 1, 2):
            os.dup2(log if stream else os.open(os.devnull, os.O_RDONLY), stream)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        ModelProcess(load, options).serve(listener)


if __name__ == "__main__":
    main()
