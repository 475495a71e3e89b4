# SPDX-License-Identifier: Apache-2.0
"""Predictions of windows that outlive the process: a run that was killed goes on from those that it had finished.

A window is known by what was asked: the pixels of its images, their cameras, the model and its options. So the same
command again finds what the last one left, a changed input or option finds nothing, and the result is that of a run
that nothing interrupted.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic
from weakref import WeakKeyDictionary

import numpy as np

from da3_core.errors import InputError
from da3_core.options import InferenceOptions, declared
from da3_core.prediction import Prediction
from da3_core.storage.allowed_folders import AllowedFile
from da3_core.storage.staging import write_atomically
from da3_core.stream.frame import Frame
from da3_core.stream.inference import (
    Decoded,
    Inference,
    RequestOf,
    View,
    Window,
    WindowLog,
    WindowRequest,
    WindowRow,
    all_decoded,
)
from da3_core.stream.prediction_file import from_bytes, to_bytes

logger = logging.getLogger(__name__)

SUFFIX = ".window"
KEPT = "kept"  # in place of a worker's name


def work_folder(output: Path) -> Path:
    """Where the windows of a run that writes `output` are kept: `.NAME.windows` beside it."""
    return output.absolute().with_name(f".{output.name}.windows")


@contextmanager
def kept_beside(output: Path, model: Any, options: InferenceOptions) -> Iterator[KeptWindows]:
    """The windows of a run that writes `output`; they go when the `with` block ends well, and stay when it does not.

    Args:
        model: a `DepthAnything3`, or what tells its `fingerprint`.
        options: as `check` returned them.
    """
    folder = work_folder(output)
    chosen = {name: getattr(options, name) for name in declared(InferenceOptions)}
    kept = KeptWindows(folder, f"{model.fingerprint} {chosen}")
    if kept.count:
        logger.info("%s has %d finished windows of an earlier run", folder, kept.count)
    yield kept
    shutil.rmtree(folder, ignore_errors=True)


class KeptWindows:
    """A folder of predictions, a file for each.

    Args:
        identity: of model and options.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._digests: WeakKeyDictionary[Frame, bytes] = WeakKeyDictionary()
        self._file_digests: dict[Path, bytes] = {}

    @property
    def count(self) -> int:
        return len(list(self._folder.glob(f"*{SUFFIX}"))) if self._folder.is_dir() else 0

    def has(self, request: WindowRequest) -> bool:
        return self._path(request).is_file()

    def find(self, request: WindowRequest) -> Prediction | None:
        """What was kept; None where there is nothing, or what a power cut left of it."""
        path = self._path(request)
        try:
            found = from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except InputError as damage:
            logger.warning("%s: it is inferred again", damage)
            path.unlink(missing_ok=True)
            return None
        return found if found.image_names is None else replace(found, image_names=tuple(map(str, request.images)))

    def keep(self, request: WindowRequest, prediction: Prediction) -> None:
        """Nothing of Gaussians, which one window holds all of. Raises OSError where there is no room."""
        if prediction.gaussians is not None:
            return
        write_atomically(self._path(request), to_bytes(prediction))

    def _path(self, request: WindowRequest) -> Path:
        digest = hashlib.blake2b(self._identity.encode(), digest_size=16)
        for image in request.images:
            digest.update(self._digest(image))
        for cameras in (request.extrinsics, request.intrinsics):
            digest.update(b"none" if cameras is None else np.ascontiguousarray(cameras, np.float64).tobytes())
        if request.decoded is not None:
            digest.update(f"decoded {request.decoded}".encode())
        return self._folder / f"{digest.hexdigest()}{SUFFIX}"

    def _digest(self, image: Path | AllowedFile | Frame) -> bytes:
        """Of the name and the bytes of a file, or of the pixels of a frame; each is read once."""
        if isinstance(image, Frame):
            if image not in self._digests:
                self._digests[image] = _hashed(str(image.image.shape), np.ascontiguousarray(image.image).data)
            return self._digests[image]
        path = Path(image)
        if path not in self._file_digests:
            with image.open("rb") as file:
                self._file_digests[path] = _hashed(path.name, file.read())  # wherever it lies now
        return self._file_digests[path]


class KeptInference(Generic[View]):
    """An inference that asks another one for what is not kept yet, and keeps the answers."""

    def __init__(
        self,
        inference: Inference[View],
        request_of: RequestOf[View],
        kept: KeptWindows,
        log: WindowLog = lambda row: None,
    ) -> None:
        self._inference, self._request_of, self._kept, self._log = inference, request_of, kept, log

    def __call__(self, views: Sequence[View], decoded: Decoded = None) -> Prediction:
        request = replace(self._request_of(views), decoded=decoded)
        start = time.perf_counter()
        prediction = self._kept.find(request)
        if prediction is None:
            prediction = self._inference(views, decoded)
            self._kept.keep(request, prediction)
        else:
            self._log(WindowRow(len(views), KEPT, time.perf_counter() - start))
        return prediction

    def ahead(
        self,
        windows: Iterable[Window],
        views_of: Callable[[Window], Sequence[View]],
        decoded_of: Callable[[Window], Decoded] = all_decoded,
    ) -> Iterator[Window]:
        def views_to_infer(window: Window) -> Sequence[View]:
            views = views_of(window)
            is_kept = self._kept.has(replace(self._request_of(views), decoded=decoded_of(window)))
            return () if is_kept else views

        return self._inference.ahead(windows, views_to_infer, decoded_of)


def _hashed(name: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(name.encode(), digest_size=16)
    digest.update(content)
    return digest.digest()
