# SPDX-License-Identifier: Apache-2.0
"""What happens when something is clicked: from the values of the page to new values for it.

The only place where errors become messages on the page; whatever goes wrong, the app lives on.
"""

from __future__ import annotations

import functools
import html
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from da3_core.app.clouds import CloudOptions, write_cloud
from da3_core.app.downloads import write_downloads
from da3_core.app.examples import Example, ExampleCache
from da3_core.app.measure import Pixel, draw_pixels, measure
from da3_core.app.pictures import MAX_FRAMES, take_frames, take_images, thumbnails
from da3_core.app.reconstruct import Choices, reconstruct, write_result
from da3_core.app.saving import save_scene
from da3_core.app.sessions import Session, Sessions
from da3_core.errors import InputError
from da3_core.prediction import Prediction
from da3_core.processing import Stage
from da3_core.service.model_runner import ModelRunner
from da3_core.visualise import colorize_depth

logger = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

HINT = "Click two points of the picture or of the depth."
NO_FLIGHT = "No Gaussians were asked for."
DOWNLOADS = ("GLB", "NPZ", "PLY", "COLMAP", "K.txt", "Gaussians")


def reported(handler: Handler) -> Handler:
    """Show what goes wrong in a handler as a message on the page."""

    @functools.wraps(handler)
    def shown(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except InputError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            logger.exception("%s failed", handler.__name__)
            message = f"this failed on the server ({type(error).__name__}); its terminal says why"
            raise gr.Error(message, print_exception=False) from None

    return shown  # type: ignore[return-value]


@dataclass(frozen=True)
class Handlers:
    """The events of a page.

    `key` is always the key of the visitor's session, or None; it never leaves the server. The five values of `cloud`
    are those of the controls of the point cloud.
    """

    runner: ModelRunner
    process_res: int | None
    sessions: Sessions
    gallery: Path
    examples: Sequence[Example]
    cache: ExampleCache

    @reported
    def take_uploads(
        self,
        key: str | None,
        video: str | None,
        files: Sequence[str] | None,
        fps: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """A new session of what is in both upload fields: key, preview, status."""
        if video is None and not files:
            self.sessions.close(key)
            return None, None, ""
        new_key = self.sessions.open()
        try:
            with self.sessions.use(new_key) as session:
                images = take_images(map(Path, files or ()), session.folder / "images")
                if video is not None:
                    images += self._take_frames(Path(video), fps, session, progress)
                preview = thumbnails(images)
                session.images = images
        except BaseException:
            self.sessions.close(new_key)
            raise
        self.sessions.close(key)
        return new_key, preview, _count(len(images), "picture")

    def _take_frames(self, video: Path, fps: float, session: Session, progress: gr.Progress) -> tuple[Path, ...]:
        def advance(done: int, total: int) -> None:
            progress((done, total), desc="Frames of the video", unit="frames")

        frames, thinned = take_frames(video, fps, session.folder, advance)
        if thinned:
            gr.Warning(f"The video has more frames at this rate than {MAX_FRAMES}: as many are taken, evenly spread.")
        return frames

    @reported
    def clear(self, key: str | None) -> tuple[Any, ...]:
        """Key, video, files, preview and status of an empty page."""
        self.sessions.close(key)
        return None, None, None, None, ""

    def clear_result(self) -> tuple[Any, ...]:
        """As `reconstruct` returns them, of a page without a result; then the empty downloads."""
        view = gr.Dropdown(choices=[], value=None, interactive=False)
        return None, "", view, None, None, HINT, [], None, NO_FLIGHT, *self._no_downloads()

    @reported
    def reconstruct(
        self,
        key: str | None,
        method: Any,
        infer_gs: bool,
        flight: Any,
        quality: Any,
        ref_view_strategy: Any,
        focal_length_px: float | None,
        *cloud: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        """Cloud, summary, view, picture, depth, measurement, points, video and its hint."""
        choices = Choices(method, infer_gs, flight, quality, ref_view_strategy, float(focal_length_px or 0))
        options = _cloud_options(*cloud)
        with self.sessions.use(key) as session:
            start = time.perf_counter()
            progress(0, desc="Waiting for the model")
            prediction = reconstruct(self.runner, session.images, self.process_res, choices, _stage(progress))
            progress(1, desc="Flying through the Gaussians" if infer_gs else "Point cloud")
            shutil.rmtree(session.result_folder, ignore_errors=True)
            session.prediction = write_result(prediction, session.result_folder, choices)
            model = self.runner.state.preset
            details = (model.name if model else "", f"{time.perf_counter() - start:.1f} s")
            return self._show_result(session, options, *details)

    @reported
    def load_example(self, key: str | None, event: gr.SelectData, *cloud: Any) -> tuple[Any, ...]:
        """Key, video, files, preview and status of an example in a session of its own, then as `reconstruct`."""
        if not (isinstance(event.index, int) and 0 <= event.index < len(self.examples)):
            raise InputError(f"there is no example {event.index!r}: choose one of {len(self.examples)}")
        example = self.examples[event.index]
        self.sessions.close(key)
        key = self.sessions.open()
        with self.sessions.use(key) as session:
            session.images = example.images
            status = f"{_count(len(example.images), 'picture')} of {html.escape(example.name)}"
            inputs = (key, None, None, thumbnails(example.images), status)
            prediction = self.cache.load(example)
            if prediction is None:
                return *inputs, *self.clear_result()[: -len(DOWNLOADS)]
            self.cache.copy_files(example, session.result_folder)
            session.prediction = prediction
            return *inputs, *self._show_result(session, _cloud_options(*cloud))

    def _show_result(self, session: Session, options: CloudOptions, *details: str) -> tuple[Any, ...]:
        prediction = session.prediction
        assert prediction is not None
        names = [path.name for path in session.images]
        view = gr.Dropdown(
            choices=[(f"{number}: {name}", number - 1) for number, name in enumerate(names, 1)],
            value=0,
            interactive=True,
        )
        cloud, problem = self._cloud(session, 0, options)
        video = next(session.result_folder.glob("gs_video/*.mp4"), None)
        summary = _summary(prediction, *details) + (f"\n\n{problem}" if problem else "")
        shown = self._show_view(session, 0)
        return cloud, summary, view, *shown, video and str(video), "" if video else NO_FLIGHT

    def _cloud(self, session: Session, view: int, options: CloudOptions) -> tuple[str | None, str]:
        """The file, or why there is none."""
        assert session.prediction is not None
        try:
            return str(write_cloud(session.prediction, view, session.result_folder, options)), ""
        except InputError as error:
            return None, html.escape(str(error), quote=False)

    @reported
    def redraw(self, key: str | None, view: int | None, *cloud: Any) -> Any:
        """The cloud after a change of its controls, without any inference."""
        if key is None:
            return gr.skip()
        with self.sessions.use(key) as session:
            if session.prediction is None:
                return gr.skip()
            path, problem = self._cloud(session, self._view(session, view), _cloud_options(*cloud))
            if problem:
                raise InputError(problem)
            return path

    @reported
    def redraw_of_view(self, key: str | None, view: int | None, *cloud: Any) -> Any:
        """The cloud after a change of the view, which matters only where each view has a cloud of its own."""
        if key is None:
            return gr.skip()
        with self.sessions.use(key) as session:
            prediction = session.prediction
            if prediction is None or prediction.extrinsics is not None or prediction.intrinsics is None:
                return gr.skip()
            return self._cloud(session, self._view(session, view), _cloud_options(*cloud))[0]

    @reported
    def prepare_downloads(self, key: str | None, view: int | None, *cloud: Any) -> tuple[Any, ...]:
        """A button for each of `DOWNLOADS`."""
        if key is None:
            return self._no_downloads()
        with self.sessions.use(key) as session:
            if session.prediction is None:
                return self._no_downloads()
            view = self._view(session, view)
            files = write_downloads(session.prediction, view, session.result_folder, _cloud_options(*cloud))
            return tuple(_button(files[name]) for name in DOWNLOADS)

    def _no_downloads(self) -> tuple[Any, ...]:
        return tuple(_button(None) for _ in DOWNLOADS)

    @reported
    def show_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        """Picture, depth, measurement and points of a view."""
        with self._with_result(key) as (session, _):
            return self._show_view(session, self._view(session, view))

    @reported
    def previous_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        """The view, then as `show_view`."""
        return self._step(key, view, -1)

    @reported
    def next_view(self, key: str | None, view: int | None) -> tuple[Any, ...]:
        """The view, then as `show_view`."""
        return self._step(key, view, +1)

    def _step(self, key: str | None, view: int | None, step: int) -> tuple[Any, ...]:
        with self._with_result(key) as (session, prediction):
            view = (self._view(session, view) + step) % len(prediction.depth)
            return view, *self._show_view(session, view)

    def _show_view(self, session: Session, view: int, points: Sequence[Pixel] = ()) -> tuple[Any, ...]:
        prediction = session.prediction
        assert prediction is not None
        assert prediction.processed_images is not None
        pictures = (prediction.processed_images[view], colorize_depth(prediction.depth[view]))
        text = str(measure(prediction, view, points)) if points else HINT
        return *(draw_pixels(picture, points) for picture in pictures), text, list(points)

    @reported
    def pick_point(
        self, key: str | None, view: int | None, points: Sequence[Pixel], event: gr.SelectData
    ) -> tuple[Any, ...]:
        """As `show_view`, with one more point; a third begins anew."""
        with self._with_result(key) as (session, prediction):
            height, width = prediction.depth.shape[1:]
            column, row = (int(value) for value in event.index)
            if not (0 <= column < width and 0 <= row < height):
                raise InputError(f"the point {column}, {row} is outside the picture of {width} x {height} pixels")
            before = [(int(u), int(v)) for u, v in points] if len(points) == 1 else []
            return self._show_view(session, self._view(session, view), [*before, (column, row)])

    @reported
    def save(self, key: str | None, group: str, scene: str) -> str:
        """What became of it."""
        with self._with_result(key) as (session, _):
            saved = save_scene(session.result_folder, self.gallery, group, scene)
            return f"Saved as {html.escape(saved.name)} in the group {html.escape(saved.parent.name)}."

    @contextmanager
    def _with_result(self, key: str | None) -> Iterator[tuple[Session, Prediction]]:
        with self.sessions.use(key) as session:
            if session.prediction is None:
                raise InputError("there is no result yet: press Reconstruct first")
            yield session, session.prediction

    def _view(self, session: Session, view: int | None) -> int:
        assert session.prediction is not None
        views = len(session.prediction.depth)
        if not (isinstance(view, int) and 0 <= view < views):
            raise InputError(f"there is no view {view!r}: choose one of {views}")
        return view


def _cloud_options(
    show_cameras: bool, filter_black: bool, filter_white: bool, filter_percentage: float, max_points_k: float
) -> CloudOptions:
    return CloudOptions(
        bool(show_cameras), bool(filter_black), bool(filter_white), float(filter_percentage), int(max_points_k * 1000)
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


def _summary(prediction: Prediction, *details: str) -> str:
    views, height, width = prediction.depth.shape
    unit = "metres" if prediction.is_metric else "the model's unit"
    text = " · ".join([_count(views, "view"), f"{width} × {height} pixels", f"depth in {unit}", *details])
    if prediction.extrinsics is None and prediction.intrinsics is not None and views > 1:
        text += "\n\nThe cameras could not be placed in one world: the cloud is that of the selected view."
    return text


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _button(path: Path | None) -> Any:
    return gr.DownloadButton(value=None if path is None else str(path), interactive=path is not None)
