# SPDX-License-Identifier: Apache-2.0
"""A process that holds the model and answers calls. It knows nothing of Ray, which makes it an actor."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from da3_core.api import DepthAnything3
from da3_core.cluster.images import ImageReader, Sent, Unreachable
from da3_core.errors import InputError
from da3_core.model.memory import FreeMemory
from da3_core.model.presets import Preset
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.stream.inference import Decoded
from da3_core.stream.prediction_file import to_bytes


@dataclass(frozen=True, eq=False)
class Call:
    """What a worker is asked about a window.

    Attributes:
        sent: of its `N` images.
        names: of the images that are files, or None.
        extrinsics: `(N, 4, 4)` world-to-camera, or None.
        intrinsics: `(N, 3, 3)`, or None.
        decoded: see `WindowRequest`.
        options: as `DepthAnything3.check` returned them.
    """

    sent: tuple[Sent, ...]
    names: tuple[str, ...] | None
    extrinsics: np.ndarray | None
    intrinsics: np.ndarray | None
    decoded: Decoded
    options: InferenceOptions


@dataclass(frozen=True, eq=False)
class Reply:
    """What a worker answers.

    Attributes:
        prediction: as `prediction_file.to_bytes` writes it, or None.
        error: why there is none.
        unreachable: the images are not where the call said, so they have to travel.
        seconds: of the whole call.
        told: log records of the library: level and text.
    """

    prediction: bytes | None
    error: Exception | None
    unreachable: bool
    seconds: float
    told: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class WorkerFacts:
    """What a worker says of itself once its model is loaded, or why that is not so.

    Attributes:
        name: of its machine and its process.
        fingerprint, source, engine, engine_status, precision_status, warning: of the model, see `DepthAnything3`.
        device: that it is on.
        free_memory: for it.
    """

    name: str
    preset: Preset
    fingerprint: str
    source: str
    engine: str
    engine_status: str
    precision_status: str
    warning: str | None
    device: str
    free_memory: FreeMemory
    told: tuple[tuple[int, str], ...]


class Worker:
    """A model, and the way to the images."""

    def __init__(self, options: ModelOptions, threads: int) -> None:
        self._options, self._threads = options, threads
        self._images = ImageReader()

    def start(self) -> WorkerFacts | InputError:
        """Load the model."""
        import cv2
        import torch

        torch.set_num_threads(self._threads)
        cv2.setNumThreads(self._threads)
        with _told() as told:
            try:
                self._model = DepthAnything3.from_options(self._options)
            except InputError as error:
                return error
        model, self._kept = self._model, self._model.kept_views()
        return WorkerFacts(
            name=f"{socket.gethostname()}:{os.getpid()}",
            preset=model.preset,
            fingerprint=model.fingerprint,
            source=model.source,
            engine=model.engine,
            engine_status=model.engine_status,
            precision_status=model.precision_status,
            warning=model.warning,
            device=str(model.device),
            free_memory=model.free_memory,
            told=tuple(told),
        )

    def infer(self, call: Call, *contents: bytes) -> Reply:
        """The prediction of a window; what the library raises is in the answer."""
        start = time.perf_counter()
        prediction, error, unreachable = None, None, False
        with _told() as told:
            try:
                prediction = self._predict(call, contents)
            except Unreachable:
                unreachable = True
            except Exception as raised:
                error = raised
        return Reply(prediction, error, unreachable, time.perf_counter() - start, tuple(told))

    def _predict(self, call: Call, contents: Sequence[bytes]) -> bytes:
        images, options = self._images.read(call.sent, contents), call.options
        prediction = self._model.predict(
            images,
            options,
            extrinsics=call.extrinsics,
            intrinsics=call.intrinsics,
            known=self._kept.known([(each, options.process_res_method, options.apply_exif) for each in call.sent]),
            decoded=call.decoded,
        )
        return to_bytes(replace(prediction, image_names=call.names))


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))


@contextmanager
def _told() -> Iterator[list[tuple[int, str]]]:
    """What the library logs within the block, for the driver to log."""
    logger, handler = logging.getLogger("da3_core"), _Told()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
