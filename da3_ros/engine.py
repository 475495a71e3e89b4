# SPDX-License-Identifier: Apache-2.0
"""The model and the one thread that runs it: windows out of the buffer, through a session, to a callback, which is at
work while the next window is inferred.

No other module of the node touches the model. Who needs an inference of other frames, such as those of a bag, has
it done between two windows of the stream, which keeps nearly all of the model's time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from da3_core.errors import ImageError, InputError
from da3_core.export import check_request
from da3_core.model.memory import release_memory as release_memory
from da3_core.prediction import Prediction
from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.session_options import session_options
from da3_core.stream.frame import Frame
from da3_core.stream.inference import Decoded, bind_inference
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.session import Session, WindowResult
from da3_ros.budget import inference_bytes
from da3_ros.settings import Settings
from da3_ros.window_buffer import LiveWindow, WindowBuffer

POLL_S = 0.1  # how soon the worker notices the end of a pause
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0  # after too many failures in a row; every further one doubles it
BACKGROUND_SHARE = 0.1  # of the model's time, while windows of the stream have to wait for background inference


def load_model(settings: Settings) -> Any:
    """The model with its weights on its device, a `DepthAnything3`, or what stands for that of `engine_process`.

    Raises:
        InputError: unknown model, refused licence, missing weights, no such device, or an option that it does not have.
    """
    from da3_core.api import DepthAnything3
    from da3_core.sharing.model import SharedModel

    name = settings.engine_process
    model = SharedModel(name, settings) if name else DepthAnything3.from_options(settings)
    try:
        model.check(settings)
    except InputError:
        close_model(model)
        raise
    return model


def close_model(model: Any) -> None:
    """Let go of a process that holds it; what holds itself ends with its last reference."""
    if hasattr(model, "process_status"):
        model.close()


def model_name(model: Any, settings: Settings) -> str:
    """What the messages call the model: the parameter, but for `auto` what it became."""
    return str(getattr(model, "source", settings.model))


class Engine:
    """Runs from `start` to `stop` in a thread of its own, in which callbacks are called, but for `on_result`: that has
    another one, and deals with a result while the next window is inferred.

    Attributes:
        paused: true stops taking windows.

    Args:
        model: what `load_model` returned.
        buffer: where windows come from.
        on_result: called with every result and the window that it is about.
        on_refused: called with a frame that turned out to be undecodable, or that the model cannot take.
        on_failure: called with an exception of inference or publishing and how many there have been in a row.

    After `max_consecutive_failures` it pauses before it tries the next window, longer after every further failure.
    """

    def __init__(
        self,
        model: Any,
        buffer: WindowBuffer,
        settings: Settings,
        *,
        on_result: Callable[[WindowResult, LiveWindow], None],
        on_refused: Callable[[RefusedMessage], None],
        on_failure: Callable[[Exception, int], None],
    ) -> None:
        self.apply(settings)
        self._model = model
        self._infer = bind_inference(model, settings.inference)
        loops = LiveLoops(self._infer_beside, in_background=True) if settings.loop.closure else None
        scale = settings.scale
        options = session_options(
            *(scale.source, scale.fixed_m_per_unit, scale.camera_height_m, settings.map.up),
            alignment_views=settings.window.alignment_views,
        )
        self._session = Session(self._infer, options, loops)
        self._session_number = -1
        self._buffer = buffer
        self._on_result, self._on_refused = on_result, on_refused
        self._on_failure = on_failure
        self._failures = 0
        self._requests: list[Future[str]] = []
        self._background: deque[tuple[Sequence[Frame], Decoded, Future[Prediction]]] = deque()
        self._next_background_s = 0.0
        self._publishing = threading.Lock()
        self._publication: Future[bool] | None = None  # of the last result
        self._oldest_valid_session = 0
        self._next_start_s = 0.0
        self.paused = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="da3_engine", daemon=True)

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._settings = settings

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the inference that is running has ended, whose result is not published, and what is being
        published is."""
        self._stopping.set()
        self._buffer.wake()
        if self._thread.is_alive():
            self._thread.join()
        while self._background:
            self._background.popleft()[2].cancel()
        while self._requests:
            self._requests.pop().set_exception(
                InputError("The node was deactivated before its turn; activate it, then ask.")
            )

    @property
    def warning(self) -> str | None:
        """What users of the model's results must be told."""
        return getattr(self._model, "warning", None)

    @property
    def next_try_s(self) -> float:
        """How long it still waits after too many failures in a row, seconds; 0 otherwise."""
        is_failing = self._failures >= self._settings.max_consecutive_failures
        return max(0.0, self._next_start_s - time.monotonic()) if is_failing else 0.0

    def facts(self) -> dict[str, str]:
        """Model, device, precision, engine and GPU memory, for diagnostics."""
        facts = {
            "model": self._settings.model,
            "device": str(getattr(self._model, "device", "cpu")),
            "precision": getattr(self._model, "precision_status", self._settings.precision),
            "engine": getattr(self._model, "engine_status", "torch"),
        }
        facts["preset"] = self._model.preset.name
        process = getattr(self._model, "process_status", None)
        if process:
            facts["engine process"] = process
        if self._settings.memory.budget_mb:
            needed = inference_bytes(self._settings, self._model.preset)
            side = self._settings.process_res or self._model.preset.process_res
            facts["window.size, process_res"] = f"{self._settings.window.size}, {side}"
            facts["memory of an inference, about, MB"] = f"{needed / 1e6:.0f}"
        if facts["device"].startswith("cuda") and not process:
            import torch

            facts["GPU memory, MB"] = f"{torch.cuda.memory_allocated() / 1e6:.0f}"
        return facts

    def check_export(self, export_format: str, views: int, poses_known: bool = False) -> None:
        """Refuse formats that this model cannot feed from windows of so many views.

        Raises:
            InputError: a format needs poses, and neither the model nor anything else tells them.
        """
        from_features = views >= 2 and self._model.check(self._settings).pose_method == "features"
        check_request(
            export_format,
            self._model.preset,
            views=views,
            intrinsics_known=True,
            poses_from_features=from_features or poses_known,
        )

    def reset(self) -> None:
        """Forget the map. What is being inferred now is not published."""
        with self._publishing:
            self._oldest_valid_session = self._buffer.clear()

    def infer_now(self) -> "Future[str]":
        """Ask for one inference on what is buffered; the future holds one sentence, or the exception."""
        request: Future[str] = Future()
        self._requests.append(request)
        self._buffer.wake()
        return request

    def infer_in_background(self, frames: Sequence[Frame], decoded: Decoded = None) -> "Future[Prediction]":
        """Ask for an inference that has nothing to do with the stream and waits for its turn.

        The future holds what the model says or raises. It may be cancelled before its turn, and is when the engine
        stops before that.
        """
        aside: Future[Prediction] = Future()
        self._background.append((frames, decoded, aside))
        if self._stopping.is_set():
            aside.cancel()
        self._buffer.wake()
        return aside

    def _infer_beside(self, frames: Sequence[Frame]) -> Prediction:
        """For a thread beside the stream, when it is its turn."""
        return self.infer_in_background(frames).result()

    def _run(self) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="da3_publishing") as publisher:
            while not self._stopping.is_set():
                if self._publication and self._publication.done():
                    self._settle()
                if self._is_aside_due():
                    self._infer_in_background_next()
                self._take_window(publisher)

    def _take_window(self, publisher: ThreadPoolExecutor) -> None:
        """The next one, or the one that somebody asks for now."""
        request = self._requests.pop(0) if self._requests else None
        window = self._buffer.take_now() if request else self._next_window()
        try:
            result = self._process(window) if window else None
        except Exception as error:  # whatever a model or a message can raise: the next window is tried
            self._fail(error)
            if request:
                request.set_exception(error)
            return
        if result and window:
            self._settle()  # results keep their order, and none piles up
            self._publication = publisher.submit(self._publish, result, window)
        if request:
            _answer(request, window, result, self._settle() if result else False)

    def _publish(self, result: WindowResult, window: LiveWindow) -> bool:
        """False where nobody wants it any more."""
        with self._publishing:
            if window.session < self._oldest_valid_session or self._stopping.is_set():
                return False
            self._on_result(result, window)
            return True

    def _settle(self) -> bool | Exception:
        """Wait until the last result is published: whether it was, or what failed."""
        publication, self._publication = self._publication, None
        try:
            is_published = publication is not None and publication.result()
        except Exception as error:  # whatever a message can raise: the next window is tried
            self._fail(error)
            return error
        if is_published:
            self._failures = 0
        return is_published

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self._back_off()
        self._on_failure(error, self._failures)

    def _back_off(self) -> None:
        too_many = self._failures - self._settings.max_consecutive_failures
        if too_many >= 0:
            pause_s = min(FIRST_PAUSE_S * 2.0 ** min(too_many, 30), LONGEST_PAUSE_S)
            self._next_start_s = max(self._next_start_s, time.monotonic() + pause_s)

    def _next_window(self) -> LiveWindow | None:
        wait_s = self._next_start_s - time.monotonic()
        return self._buffer.take(min(wait_s, POLL_S) if wait_s > 0 else POLL_S, self._wants_windows, self._is_called)

    def _wants_windows(self) -> bool:
        return not self.paused and self._settings.mode == "stream" and time.monotonic() >= self._next_start_s

    def _is_called(self) -> bool:
        """Whether there is something else to do than to wait for a window."""
        return self._stopping.is_set() or bool(self._requests) or self._is_aside_due()

    def _is_aside_due(self) -> bool:
        return bool(self._background) and time.monotonic() >= self._next_background_s

    def _infer_in_background_next(self) -> None:
        """One background inference. If a window waits at its end, the next is put off, by `BACKGROUND_SHARE`."""
        frames, decoded, aside = self._background.popleft()
        if not aside.set_running_or_notify_cancel():
            return
        start_s = time.monotonic()
        try:
            aside.set_result(self._infer(frames, decoded))
        except Exception as error:  # whatever a model can raise: it concerns who asked, and nobody else
            aside.set_exception(error)
        end_s = time.monotonic()
        if self._wants_windows() and self._buffer.has_window():
            self._next_background_s = start_s + (end_s - start_s) / BACKGROUND_SHARE

    def _process(self, window: LiveWindow) -> WindowResult | None:
        """One inference; None when a frame cannot be used."""
        if self._settings.max_rate_hz > 0:
            self._next_start_s = time.monotonic() + 1 / self._settings.max_rate_hz
        if window.session != self._session_number:
            self._session.reset()
            self._session_number = window.session
        frames = self._decoded(window)
        if frames is None:
            return None  # the good ones are in the next window again
        try:
            return self._session.process(frames)
        except ImageError as error:
            refusal = RefusedMessage("unusable", f"The model cannot take an image: {error}.")
            self._refuse(refusal, window, _arrival_of(window, error.index))
            return None

    def _decoded(self, window: LiveWindow) -> list[Frame] | None:
        """The frames of a window; None where some cannot be decoded, which the buffer forgets."""
        frames: list[Frame] = []
        is_whole = True
        for i, arrival in enumerate(window.arrivals):
            try:
                frames += arrival.frames
            except RefusedMessage as refusal:
                self._refuse(refusal, window, i)
                is_whole = False
        return frames if is_whole else None

    def _refuse(self, refusal: RefusedMessage, window: LiveWindow, index: int) -> None:
        self._buffer.refuse(refusal.kind, window.arrivals[index])
        self._on_refused(refusal)


def _arrival_of(window: LiveWindow, frame: int) -> int:
    """The number of the arrival that a frame of the window is of."""
    return [i for i, each in enumerate(window.arrivals) for _ in each.names][frame]


def _answer(
    request: "Future[str]", window: LiveWindow | None, result: WindowResult | None, published: bool | Exception
) -> None:
    if isinstance(published, Exception):
        request.set_exception(published)
    elif window is None:
        request.set_exception(InputError("No image has arrived yet; publish images, then ask again."))
    elif result is None or not published:
        request.set_exception(InputError("The window was given up, for a damaged image or a reset; ask again."))
    else:
        new = sum(view.is_new for view in result.views)
        request.set_result(f"Inferred {len(result.views)} views, {new} of them new, in {result.inference_s:.2f} s.")
