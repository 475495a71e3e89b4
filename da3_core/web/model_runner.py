# SPDX-License-Identifier: Apache-2.0
"""The one model of a serving process: loaded when first needed, used by one caller at a time, unloaded when idle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from da3_core.errors import InputError
from da3_core.model.device import choose_device
from da3_core.model.memory import release_memory
from da3_core.options import ModelOptions, SceneOptions
from da3_core.pipeline import Stage, cost_of, infer_scene

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.model.presets import Preset
    from da3_core.prediction import Prediction
    from da3_core.sources import SceneImages

logger = logging.getLogger(__name__)


@contextmanager
def interruptible(model: DepthAnything3, go_on: Callable[[], object]) -> Iterator[None]:
    """Within the block, `go_on` is called before each part of the network: every block and every head of torch.

    OpenVINO asks ten times a second, ONNX Runtime before every view that it decodes; neither while it converts.
    """
    import torch

    from da3_core.engines import runtime

    def check(module: object, inputs: object) -> None:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            go_on()

    hooks = [part.register_forward_pre_hook(check) for part in model.model.modules()]
    before = runtime.go_on.set(go_on)
    try:
        yield
    finally:
        runtime.go_on.reset(before)
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class ModelState:
    """What a status page says of the model.

    Attributes:
        preset: which model it is; None until it was loaded once.
        warning: what users of its results must be told, or None.
        load_seconds: how long loading took; None while no model is loaded.
        loaded_at: time of loading, seconds since the epoch; None while no model is loaded.
        last_used: time at which a caller was last done with it, seconds since the epoch, or None.
    """

    preset: Preset | None = None
    warning: str | None = None
    load_seconds: float | None = None
    loaded_at: float | None = None
    last_used: float | None = None


class ModelRunner:
    """Holds at most one model and lends it to one caller at a time; every method may be called from any thread.

    Attributes:
        source: what `DepthAnything3.from_pretrained` is given.
        device: where the model runs.
    """

    def __init__(
        self, options: ModelOptions, *, idle_seconds: float | None = None, preset: Preset | None = None
    ) -> None:
        """Load nothing yet.

        Args:
            options: which model, and where it runs.
            idle_seconds: after so long without use the model is unloaded; None keeps it.
            preset: which model that is, if it is known already.

        Raises:
            InputError: no such device.
        """
        self.source = options.model
        self.device = choose_device(options.device)
        self._options = options
        self._preset = preset
        self._seconds_per_operation = 0.0  # of the latest inference
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._model: DepthAnything3 | None = None
        self._state = ModelState()
        self._idle_timer: threading.Timer | None = None

    @property
    def state(self) -> ModelState:
        """As of now; does not wait for the model."""
        return self._state

    @property
    def is_loaded(self) -> bool:
        """As of now; does not wait for the model."""
        return self._model is not None

    @contextmanager
    def lent(self) -> Iterator[DepthAnything3]:
        """The model, loaded, for this caller alone until the `with` block ends; keep no reference to it.

        Raises:
            InputError: it cannot be loaded; the next call tries again.
        """
        with self._lock:
            self._stop_idle_timer()
            try:
                yield self._load()
            finally:
                release_memory()
                self._state = replace(self._state, last_used=time.time())
                self._start_idle_timer()

    def infer(
        self, scene: SceneImages, options: SceneOptions, stage: Stage, go_on: Callable[[], object] = lambda: None
    ) -> Prediction:
        """The prediction of all views of a scene, once the model is free.

        Args:
            go_on: called before every part of the network; what it raises ends the inference.

        Raises:
            InputError: the model cannot be loaded or cannot do what is asked for, an image cannot be read, or memory
                does not suffice.
        """
        with self.lent() as model, interruptible(model, go_on):
            checked = model.check_scene(options, views=len(scene.images), intrinsics_known=scene.intrinsics is not None)
            cost = cost_of(model.preset, model.device, scene, checked)
            start = time.perf_counter()
            prediction = infer_scene(model, scene, checked, stage)
            self._seconds_per_operation = (time.perf_counter() - start) / cost.operations
            return prediction

    def predict(self, scene: SceneImages, options: SceneOptions) -> tuple[float, float]:
        """What an inference will take: bytes at once, and seconds; as far as that is known, else 0.

        Raises:
            InputError: it takes more memory than there is.
        """
        preset = self._state.preset or self._preset
        if preset is None:
            return 0.0, 0.0
        cost = cost_of(preset, self.device, scene, options)
        return cost.bytes, cost.operations * self._seconds_per_operation

    def choose(self, source: str, preset: Preset) -> None:
        """Lend another model from now on, once that before is free; it is loaded when it is needed."""
        with self._lock:
            if source == self.source:
                return
            self._stop_idle_timer()
            self._unload()
            self.source, self._options, self._preset = source, replace(self._options, model=source), preset
            self._state, self._seconds_per_operation = ModelState(), 0.0

    def reload(self) -> None:
        """Load the model anew, once it is free.

        Raises:
            InputError: it cannot be loaded; none is loaded then.
        """
        self.unload()
        with self.lent():
            pass

    def unload(self) -> None:
        """Give back its memory, once it is free."""
        with self._lock:
            self._stop_idle_timer()
            self._unload()

    def _load(self) -> DepthAnything3:
        if self._model is None:
            from da3_core.api import DepthAnything3

            start = time.perf_counter()
            try:
                self._model = DepthAnything3.from_options(self._options)
            except (MemoryError, RuntimeError) as error:
                raise InputError(
                    f"{self.source} cannot be loaded on {self.device} ({str(error).partition(chr(10))[0]}): "
                    "free memory there, or choose a smaller model"
                ) from error
            self._state = ModelState(self._model.preset, self._model.warning, time.perf_counter() - start, time.time())
            logger.info("%s on %s", self._model.preset.name, self.device)
        return self._model

    def _unload(self) -> None:
        if self._model is not None:
            self._state = replace(self._state, load_seconds=None, loaded_at=None)
            self._model = None
            release_memory()
            logger.info("the model is unloaded")

    def _start_idle_timer(self) -> None:
        if self._idle_seconds is not None:
            self._idle_timer = threading.Timer(self._idle_seconds, self._unload_if_idle)
            self._idle_timer.daemon = True
            self._idle_timer.start()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _unload_if_idle(self) -> None:
        """Called by the timer; a caller that took the model meanwhile has taken the timer away."""
        with self._lock:
            if threading.current_thread() is self._idle_timer:
                self._unload()
