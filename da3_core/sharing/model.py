# SPDX-License-Identifier: Apache-2.0
"""`SharedModel`: what stands for a model that another process of this user holds."""

from __future__ import annotations

import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from da3_core import __version__
from da3_core.api import PresetModel
from da3_core.errors import InputError
from da3_core.model.presets import find_preset
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.prediction import Prediction
from da3_core.sharing.place import Place
from da3_core.sharing.process import Facts, raised
from da3_core.sharing.wire import receive, send
from da3_core.stream.frame import Frame
from da3_core.stream.prediction_file import from_bytes

PROGRAM = (sys.executable, "-m", "da3_core.sharing.process")
SILENCE_S = 60.0  # of a process that says every second that it is at work
STARTS = 2  # of a process that ends before its model is loaded, or over the same images

logger = logging.getLogger(__name__)


class SharedModel(PresetModel):
    """A model as far as a session needs it; see `DepthAnything3`. It may be used by several threads.

    The process is started by the first who names it, and ends a few seconds after the last has gone. When it dies it
    is started again, by whoever asks next.

    Attributes:
        facts: what the process said last.
    """

    def __init__(self, name: str, options: ModelOptions, program: Sequence[str] = PROGRAM) -> None:
        """Connect, and wait until the model is loaded.

        Args:
            name: of the process.
            options: of the model, the same for all that name it.
            program: starts the process, given its name.

        Raises:
            InputError: the model cannot be loaded, or the process holds another one.
        """
        self._place, self._program = Place.of(name), tuple(program)
        self._options = {each.name: getattr(options, each.name) for each in fields(ModelOptions)}
        self._names = itertools.count()
        self._one_at_a_time = threading.Lock()
        self.facts: Facts | None = None
        self._connection: socket.socket | None = self._connected()

    @property
    def source(self) -> str:
        return self._said.source

    @property
    def device(self) -> str:
        return self._said.device

    @property
    def engine_status(self) -> str:
        return self._said.engine_status

    @property
    def precision_status(self) -> str:
        return self._said.precision_status

    @property
    def warning(self) -> str | None:
        return self._said.warning

    @property
    def process_status(self) -> str:
        """Which process holds it, for people."""
        return f"{self._place.name}, process {self._said.process}, shared by {self._said.clients}"

    @property
    def _said(self) -> Facts:
        assert self.facts is not None  # by the constructor
        return self.facts

    def kept_views(self) -> KeptNames:
        """See `DepthAnything3.kept_views`; the process keeps them, of every client for itself."""
        return KeptNames(self._names)

    def predict(
        self,
        images: Sequence[np.ndarray],
        options: InferenceOptions,
        *,
        extrinsics: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        known: Sequence[int],
        decoded: Sequence[int] | None = None,
    ) -> Prediction:
        """As `DepthAnything3.predict`, of `(H, W, 3)` images.

        Raises:
            InputError: as the model does.
            RuntimeError: the model failed, or the process says nothing or has ended twice over these images.
        """
        cameras = {"extrinsics": extrinsics, "intrinsics": intrinsics}
        given = {name: np.asarray(each) for name, each in cameras.items() if each is not None}
        question = {
            "images": len(images),
            "cameras": list(given),
            "names": list(known),
            "decoded": None if decoded is None else list(decoded),
            "options": asdict(options),
        }
        with self._one_at_a_time:
            answer = self._asked(question, [*images, *given.values()])
        return from_bytes(answer.tobytes())

    def close(self) -> None:
        """Let go of the process."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _asked(self, question: dict[str, Any], arrays: list[np.ndarray]) -> np.ndarray:
        for starts in range(STARTS):
            if self._connection is None:
                self._connection = self._connected()
            try:
                send(self._connection, question, arrays)
                header, answer = _answer(self._connection)
            except OSError as error:
                self.close()
                if isinstance(error, TimeoutError):
                    raise RuntimeError(self._silence) from error
                logger.warning(
                    "the model process %s has ended (%s)%s", self._place.name, error, "" if starts else "; again"
                )
                continue
            self._hear(header)
            return answer[0]
        raise RuntimeError(f"the model process {self._place.name} has ended {STARTS} times over these images")

    def _connected(self) -> socket.socket:
        for _ in range(STARTS):
            try:
                return self._greeted()
            except OSError:
                self._start()
        try:
            return self._greeted()
        except OSError as error:
            raise InputError(
                f"the model process {self._place.name} ends before its model is loaded; is there memory? It wrote "
                f"{self._place.log}"
            ) from error

    def _greeted(self) -> socket.socket:
        connection = self._place.connected()
        connection.settimeout(SILENCE_S)
        try:
            send(connection, {"version": __version__, "options": self._options})
            header, _ = _answer(connection)
            self._hear(header)
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise InputError(self._silence) from error
            raise
        return connection

    @property
    def _silence(self) -> str:
        which = f"{self._place.name}, {self.facts.process}," if self.facts else self._place.name
        return f"the model process {which} has said nothing for {SILENCE_S:g} s: end it, and it is started again"

    def _hear(self, header: dict[str, Any]) -> None:
        """Take over facts; raises what the process told instead."""
        if "facts" in header:
            facts = Facts(**header["facts"])
            if self.facts and facts.source != self.facts.source:
                raise InputError(
                    f"the model process {self._place.name} holds {facts.source} by now instead of {self.facts.source}"
                )
            self.facts, self.preset = facts, find_preset(facts.preset)
        if "error" in header:
            raise raised(header["error"])

    def _start(self) -> None:
        """Have a process of the name listen, whoever started it."""
        options = json.dumps(self._options)
        ended = subprocess.run([*self._program, self._place.name], input=options, text=True, capture_output=True)
        if ended.returncode:
            raise InputError(f"the model process {self._place.name} cannot be started: {ended.stderr.strip()[-500:]}")


def _answer(connection: socket.socket) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The next message that tells more than that the process is at work."""
    while True:
        header, arrays = receive(connection)
        if "at_work" not in header:
            return header, arrays


class KeptNames:
    """Numbers that stand for frames, for `SharedModel.predict`."""

    def __init__(self, names: itertools.count[int]) -> None:
        self._names = names
        self._of: WeakKeyDictionary[Frame, int] = WeakKeyDictionary()

    def known(self, frames: Sequence[Frame]) -> list[int]:
        """The same number for the same frame."""
        return [self._of.setdefault(each, next(self._names)) for each in frames]
