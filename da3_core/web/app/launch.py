# SPDX-License-Identifier: Apache-2.0
"""The app as a server: its folders, its examples, its page, and how long it keeps what visitors leave."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError, OptionError
from da3_core.model.presets import Preset
from da3_core.pipeline import Stage
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder
from da3_core.web.app import gradio_private
from da3_core.web.app.examples import Example, ExampleCache, find_examples
from da3_core.web.app.files import UPLOAD, add_file_routes
from da3_core.web.app.reconstruct import Choices, reconstruct, write_result
from da3_core.web.app.uploads import VisitorUploads
from da3_core.web.app.visits import Visits
from da3_core.web.guard import Guard
from da3_core.web.model_runner import ModelRunner
from da3_core.web.uploads import FORM_BYTES, CountedBodies, UploadLimits

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from da3_core.prediction import Prediction

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 16 << 20  # of anything but uploads
_EXPIRY_INTERVAL_S = 60.0


@dataclass(frozen=True)
class AppSettings:
    """
    Attributes:
        workspace: images in use, results and examples; made if absent.
        gallery: where scenes are saved; made if absent.
        process_res: of every inference; None is the model's.
        idle_s: after so many seconds without use a visitor's files are deleted.
        gaussian_tag: see `ExampleCache`.
        upload_limits: bytes that uploads may take.
        max_task_seconds: an inference that takes longer ends.
    """

    workspace: Path
    gallery: Path
    process_res: int | None = None
    idle_s: float = 6 * 3600.0
    gaussian_tag: str = ""
    upload_limits: UploadLimits = field(default_factory=UploadLimits)
    max_task_seconds: float = 3600.0

    def make_folders(self) -> None:
        """
        Raises:
            InputError: one cannot be made or written.
        """
        for folder in (self.workspace, self.gallery):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make the folder {folder} ({error.strerror}): choose another") from error
            if not os.access(folder, os.W_OK):
                raise InputError(f"cannot write into the folder {folder}: choose another")

    @property
    def sessions_folder(self) -> Path:
        return self.workspace / "input_images"

    def examples(self) -> list[Example]:
        return find_examples(self.workspace / "examples")

    def example_cache(self, runner: ModelRunner) -> ExampleCache:
        return ExampleCache(self.sessions_folder, runner.source, self.process_res, self.gaussian_tag)


def compute_examples(settings: AppSettings, runner: ModelRunner, preset: Preset, stage: Stage) -> None:
    """Results of all examples that have none yet.

    Raises:
        InputError: an example cannot be done, or Gaussians are asked for that the model does not predict.
    """
    cache, examples = settings.example_cache(runner), settings.examples()
    if not preset.has_gaussians and any(cache.choices(example).infer_gs for example in examples):
        raise OptionError(
            "examples named {tag!r} are to be done with Gaussians, which {model} does not predict: use a giant model, "
            "or leave {cache_gs_tag} out",
            tag=settings.gaussian_tag,
            model=preset.name,
        )

    def compute(example: Example, choices: Choices, folder: Path) -> Prediction:
        prediction = reconstruct(runner, example.images, settings.process_res, choices, stage)
        return write_result(prediction, folder, choices)

    cache.fill(examples, compute)


@dataclass(frozen=True)
class App:
    """Arguments of `serving.serve`."""

    server: ASGIApp
    end_streams: Callable[[], object]


@contextmanager
def open_app(
    settings: AppSettings,
    runner: ModelRunner,
    preset: Preset,
    names: Iterable[str] = (),
    further_models: Mapping[str, Preset] | None = None,
) -> Iterator[App]:
    """The app, ready to be served; when the block ends, all that visitors left is deleted.

    Args:
        names: see `Guard`.
        further_models: which visitors may choose, by what the runner is told.
    """
    visits = Visits(settings.sessions_folder.resolve(), settings.idle_s)
    place = Path(tempfile.gettempdir()).resolve()
    own = ExitStack()
    transit = place / own.enter_context(own_folder(own.enter_context(opened(place)), "da3-app-", 0o700)).name
    uploads = VisitorUploads(transit / "uploads", settings.upload_limits, settings.idle_s)
    # Gradio reads these when it is imported: where files are on their way in and out; it reports to nobody, and no page
    # offers to keep a history elsewhere.
    os.environ["GRADIO_TEMP_DIR"] = str(transit)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    import gradio as gr
    from fastapi import FastAPI

    from da3_core.web.app.handlers import Handlers
    from da3_core.web.app.layout import NAMES, STYLE, THEME, build_page

    handlers = Handlers(
        runner=runner,
        process_res=settings.process_res,
        visits=visits,
        uploads=uploads,
        gallery=settings.gallery,
        examples=settings.examples(),
        cache=settings.example_cache(runner),
        max_task_seconds=settings.max_task_seconds,
        models={runner.source: preset, **(further_models or {})},
    )
    page = build_page(handlers, preset, settings.idle_s)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_file_routes(server, transit, uploads)
    gr.mount_gradio_app(
        server,
        page,
        path="/",
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=["api", "settings"],
        theme=THEME,
        css=STYLE,
        js=NAMES,
    )
    done = threading.Event()

    def expire() -> None:
        while not done.wait(_EXPIRY_INTERVAL_S):
            visits.expire()
            uploads.expire()

    threading.Thread(target=expire, name="visits", daemon=True).start()
    end_open_connections = gradio_private.end_of_streams(server.routes[-1])  # the last is the page

    def clean_up() -> None:
        done.set()
        visits.delete_all()
        own.close()

    def end_streams() -> None:
        end_open_connections()
        if visits.in_use:  # nothing interrupts an inference, and nobody waits for its result any more
            logger.warning("the app ends in the middle of work for a visitor")
            clean_up()
            os._exit(0)

    limits = {"": MAX_REQUEST_BYTES, UPLOAD: settings.upload_limits.caller + FORM_BYTES}
    guarded = Guard(CountedBodies(server, UPLOAD, settings.upload_limits), names=names, body_limits=limits)
    try:
        yield App(guarded, end_streams)
    finally:
        clean_up()


def open_tunnel(listener: socket.socket) -> str:
    """A public https address, for a week at most, that leads here by way of Gradio's servers.

    Raises:
        InputError: these cannot be reached.
    """
    host, port = listener.getsockname()[:2]
    try:
        return gradio_private.open_tunnel({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
    except Exception as error:  # of many kinds: no network, no tunnel program, a wrong checksum
        raise OptionError("{share} found no way to Gradio's servers ({error}): leave it out", error=error) from error
