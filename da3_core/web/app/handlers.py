# SPDX-License-Identifier: Apache-2.0
"""What happens when something is clicked: from the values of the page to new values for it.

The only place where errors become messages on the page; whatever goes wrong, the app lives on.
"""

from __future__ import annotations

import functools
import html
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from da3_core.errors import InputError
from da3_core.model.presets import Preset
from da3_core.pipeline import Stage
from da3_core.prediction import Prediction
from da3_core.web.app import shown
from da3_core.web.app.clouds import CloudOptions, write_cloud
from da3_core.web.app.examples import Example, ExampleCache
from da3_core.web.app.images import MAX_FRAMES, label_of, take_frames, take_images, thumbnails
from da3_core.web.app.measure import Pixel
from da3_core.web.app.reconstruct import Choices, expected_seconds, reconstruct, write_result
from da3_core.web.app.saving import save_scene
from da3_core.web.app.uploads import VisitorUploads
from da3_core.web.app.visits import Visit, Visits
from da3_core.web.model_runner import ModelRunner

logger = logging.getLogger(__name__)

_TELL_S = 1.0  # between two words about how long it will take

Handler = TypeVar("Handler", bound=Callable[..., Any])


class GoneError(Exception):
    """The visitor has gone on to other images, or wants no result any more."""


def reported(handler: Handler) -> Handler:
    """Show what goes wrong in a handler as a message on the page."""

    @functools.wraps(handler)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except InputError as error:
            raise gr.Error(html.escape(error.spelled(label_of), quote=False), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            logger.exception("%s failed", handler.__name__)
            message = f"this failed on the server ({type(error).__name__}); its terminal says why"
            raise gr.Error(message, print_exception=False) from None

    return wrapper  # type: ignore[return-value]


@dataclass(frozen=True)
class Handlers:
    """The events of a page.

    `key` is always the key of the visitor's visit, or None; only the visitor's own tab is told it, for `restore`. The
    five values of `cloud` are those of the controls of the point cloud; `models` may be chosen, by what the runner is
    told. What is returned is described in `shown`.
    """

    runner: ModelRunner
    process_res: int | None
    visits: Visits
    uploads: VisitorUploads
    gallery: Path
    examples: Sequence[Example]
    cache: ExampleCache
    max_task_seconds: float = 3600.0
    models: Mapping[str, Preset] = field(default_factory=dict)

    @reported
    def take_uploads(
        self,
        key: str | None,
        video: str | None,
        files: Sequence[str] | None,
        fps: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """A new visit of what is in both upload fields: key, preview, status; then no result."""
        if video is None and not files:
            self.visits.close(key)
            return None, None, "", *shown.no_result()
        new_key = self.visits.open()
        try:
            with self.visits.use(new_key) as visit:
                images = take_images(map(Path, files or ()), visit.folder / "images")
                if video is not None:
                    images += self._take_frames(Path(video), fps, visit, progress)
                preview = thumbnails(images)
                visit.images = images
        except BaseException:
            self.visits.close(new_key)
            raise
        self.visits.close(key)
        return new_key, preview, shown.images(images, [image.size for image, _ in preview]), *shown.no_result()

    @reported
    def restore(self, key: str, *cloud: Any) -> Any:
        """As `take_uploads`, of what the tab had before it was loaded anew; then the result, if there is one."""
        if not key:  # a new tab; its visitor may have uploaded something by the time that this answer arrives
            return gr.skip()
        try:
            with self.visits.use(key) as visit:
                preview = thumbnails(visit.images)
                status = shown.images(visit.images, [image.size for image, _ in preview])
                if visit.prediction is None:
                    return key, preview, status, *shown.no_result()
                options = _cloud_options(*cloud)
                result = shown.result(visit, visit.prediction, options)
                return key, preview, status, *result, *shown.downloads(visit, visit.prediction, 0, options)
        except InputError:  # it is over, or never was
            return None, None, "", *shown.no_result()

    @reported
    def cancel(self, key: str | None) -> None:
        """End the inference that a visitor waits for, at the next point where it can."""
        with self.visits.use(key) as visit:
            visit.is_cancelled = True
        gr.Info("Cancelled.")

    @reported
    def sample_anew(
        self,
        key: str | None,
        video: str | None,
        files: Sequence[str] | None,
        fps: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        """As `take_uploads`, where there is a video whose frames depend on the rate."""
        return gr.skip() if video is None else self.take_uploads(key, video, files, fps, progress)

    def _take_frames(self, video: Path, fps: float, visit: Visit, progress: gr.Progress) -> tuple[Path, ...]:
        def advance(done: int, total: int) -> None:
            progress((done, total), desc="Frames of the video", unit="frames")

        frames, thinned = take_frames(video, fps, visit.folder, advance)
        if thinned:
            gr.Warning(f"The video has more frames at this rate than {MAX_FRAMES}: as many are taken, evenly spread.")
        return frames

    @reported
    def clear(self, key: str | None) -> tuple[Any, ...]:
        """Key, video, files, preview and status of an empty page; then no result."""
        self.visits.close(key)
        return None, None, None, None, "", *shown.no_result()

    @reported
    def reconstruct(
        self,
        key: str | None,
        method: Any,
        infer_gs: bool,
        camera_path: Any,
        quality: Any,
        ref_view_strategy: Any,
        focal_length_px: float | None,
        hfov_deg: float | None,
        focal_from_exif: bool,
        *cloud_and_further: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        """The result; nothing, if the visitor has gone on to other images meanwhile."""
        *cloud, model, camera_matrix = cloud_and_further  # the last two came later, and programs know the order
        focal_length_px, hfov_deg = float(focal_length_px or 0), float(hfov_deg or 0)
        by_hand = (method, infer_gs, camera_path, quality, ref_view_strategy, focal_length_px, hfov_deg)
        choices = Choices(*by_hand, focal_from_exif, (camera_matrix or "").strip() or None)
        options = _cloud_options(*cloud)
        if model not in self.models:
            raise InputError(f"there is no model {model!r} here: choose one of {', '.join(self.models)}")
        with self.visits.use(key) as visit:
            self.runner.choose(model, self.models[model])
            start = time.perf_counter()
            visit.is_cancelled = False
            progress(0, desc="Waiting for the model")
            expected = expected_seconds(self.runner, visit.images, self.process_res, choices)
            try:
                prediction = reconstruct(
                    self.runner,
                    visit.images,
                    self.process_res,
                    choices,
                    _stage(progress),
                    watch(visit, self.max_task_seconds, expected, progress),
                )
            except GoneError:
                return gr.skip()
            if visit.is_closed or visit.is_cancelled:
                return gr.skip()
            progress(1, desc="Flying through the Gaussians" if infer_gs else "Point cloud")
            shutil.rmtree(visit.result_folder, ignore_errors=True)
            visit.prediction = write_result(prediction, visit.result_folder, choices)
            details = (self._model(), f"{time.perf_counter() - start:.1f} s")
            return shown.result(visit, visit.prediction, options, *details)

    def _model(self) -> str:
        preset = self.runner.state.preset
        return self.runner.source if preset is None or self.runner.source.startswith("untrained:") else preset.name

    @reported
    def load_example(self, key: str | None, event: gr.SelectData, *cloud: Any) -> tuple[Any, ...]:
        """Key, video, files, preview and status of an example in a visit of its own; then its result, if kept."""
        if not (isinstance(event.index, int) and 0 <= event.index < len(self.examples)):
            raise InputError(f"there is no example {event.index!r}: choose one of {len(self.examples)}")
        example = self.examples[event.index]
        self.visits.close(key)
        key = self.visits.open()
        with self.visits.use(key) as visit:
            visit.images = example.images
            status = f"{shown.count(len(example.images), 'image')} of {html.escape(example.name)}"
            inputs = (key, None, None, thumbnails(example.images), status)
            visit.prediction = self.cache.load(example)
            if visit.prediction is None:
                return *inputs, *shown.no_result()
            self.cache.copy_files(example, visit.result_folder)
            result = shown.result(visit, visit.prediction, _cloud_options(*cloud))
            return *inputs, *result, *shown.no_downloads()

    @reported
    def redraw(self, key: str | None, view: int | None, *cloud: Any) -> Any:
        """The cloud after a change of its controls, without any inference."""
        if not self._has_result(key):
            return gr.skip()
        with self._result(key) as (visit, prediction):
            view = _checked_view(prediction, view)
            return str(write_cloud(prediction, view, visit.result_folder, _cloud_options(*cloud)))

    @reported
    def redraw_of_view(self, key: str | None, view: int | None, *cloud: Any) -> Any:
        """The cloud after a change of the view, which matters only where each view has a cloud of its own."""
        with self._result(key) as (_, prediction):
            each_has_its_own = prediction.extrinsics is None and prediction.usable_intrinsics is not None
        return self.redraw(key, view, *cloud) if each_has_its_own else gr.skip()

    @reported
    def prepare_downloads(self, key: str | None, view: int | None, *cloud: Any) -> tuple[Any, ...]:
        if not self._has_result(key):
            return shown.no_downloads()
        with self._result(key) as (visit, prediction):
            return shown.downloads(visit, prediction, _checked_view(prediction, view), _cloud_options(*cloud))

    @reported
    def show_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        with self._result(key) as (_, prediction):
            return shown.one_view(prediction, _checked_view(prediction, view))

    @reported
    def previous_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        """The view, then as `show_view`."""
        return self._step(key, view, -1)

    @reported
    def next_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        """The view, then as `show_view`."""
        return self._step(key, view, +1)

    def _step(self, key: str | None, view: int | None, step: int) -> tuple[Any, ...]:
        with self._result(key) as (_, prediction):
            view = (_checked_view(prediction, view) + step) % len(prediction.depth)
            return view, *shown.one_view(prediction, view)

    @reported
    def pick_point(
        self, key: str | None, view: int | None, points: Sequence[Pixel], event: gr.SelectData
    ) -> tuple[Any, ...]:
        """As `show_view`, with one more point; a third begins anew."""
        with self._result(key) as (_, prediction):
            height, width = prediction.depth.shape[1:]
            column, row = (int(value) for value in event.index)
            if not (0 <= column < width and 0 <= row < height):
                raise InputError(f"the point {column}, {row} is outside the image of {width} x {height} pixels")
            before = [(int(u), int(v)) for u, v in points] if len(points) == 1 else []
            return shown.one_view(prediction, _checked_view(prediction, view), [*before, (column, row)])

    @reported
    def save(self, key: str | None, group: str, scene: str) -> str:
        """What became of it."""
        with self._result(key) as (visit, _):
            saved = save_scene(visit.result_folder, self.gallery, group, scene)
            return f"Saved as {html.escape(saved.name)} in the group {html.escape(saved.parent.name)}."

    def _has_result(self, key: str | None) -> bool:
        if key is None:
            return False
        with self.visits.use(key) as visit:
            return visit.prediction is not None

    @contextmanager
    def _result(self, key: str | None) -> Iterator[tuple[Visit, Prediction]]:
        with self.visits.use(key) as visit:
            if visit.prediction is None:
                raise InputError("there is no result yet: press Reconstruct first")
            yield visit, visit.prediction


def watch(
    visit: Visit, limit_seconds: float, expected_seconds: float, progress: Callable[..., object]
) -> Callable[[], None]:
    """What an inference asks again and again: it ends where nobody waits for it any more, or where it takes too long.

    Args:
        expected_seconds: by which `progress` is told how long it will take; 0 where that is not known.
    """
    begin = time.monotonic()
    told = begin - _TELL_S

    def check() -> None:
        nonlocal told
        now = time.monotonic()
        if visit.is_closed or visit.is_cancelled:
            raise GoneError
        if now - begin > limit_seconds:
            raise InputError(f"this takes more than {limit_seconds:g} s: give fewer images")
        left = expected_seconds - (now - begin)
        if left >= 1 and now - told >= _TELL_S:
            told = now
            progress(1 - left / expected_seconds, desc=f"Inference, about {left:.0f} s left")

    return check


def _checked_view(prediction: Prediction, view: int | None) -> int:
    if not (isinstance(view, int) and 0 <= view < len(prediction.depth)):
        raise InputError(f"there is no view {view!r}: choose one of {len(prediction.depth)}")
    return view


def _cloud_options(
    show_cameras: bool, filter_black: bool, filter_white: bool, filter_percentage: float, max_points_k: float
) -> CloudOptions:
    most: Any = max_points_k * 1000
    return CloudOptions(
        bool(show_cameras),
        bool(filter_black),
        bool(filter_white),
        float(filter_percentage),
        int(most) if math.isfinite(most) else most,
    )


def _stage(progress: gr.Progress) -> Stage:
    @contextmanager
    def stage(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            progress((done, total), desc=name.capitalize(), unit=unit)

        advance(0)
        yield advance

    return stage
