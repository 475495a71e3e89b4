# SPDX-License-Identifier: Apache-2.0
"""Many recordings with one model or the same workers: what fails is noted and tried again, the others go on.

While the workers have too little to do, as the first recording is read, joined or written, the next one begins.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import typer

from da3_core.bag.options import BagOptions
from da3_core.bag.read import METADATA, STORAGE_SUFFIXES
from da3_core.cli.arguments import BagOutputArguments, OutputArguments
from da3_core.cli.at_hand import ModelAtHand, OpenModel, WorkersModel
from da3_core.cli.failures import FAILED, terminated_like_interrupted
from da3_core.cli.manifest import Manifest, Recording, RecordingKind, State, held
from da3_core.cli.progress import stage, telling_of
from da3_core.cli.run import run
from da3_core.cli.run_bag import run_bag
from da3_core.cli.spelling import option_of
from da3_core.cli.table import table
from da3_core.errors import InputError
from da3_core.options import CameraOptions, ModelOptions, SceneOptions
from da3_core.pipeline import Stage
from da3_core.sources import Source
from da3_core.sources.colmap import open_colmap
from da3_core.sources.detect import describe_inputs, detect
from da3_core.sources.images import natural_order, open_folder, open_image
from da3_core.sources.video import Sampling, open_video

POLL_S = 0.2  # between looks at whether workers are idle

logger = logging.getLogger(__name__)


def run_batch(
    inputs: Sequence[Path],
    output_dir: Path,
    model_options: ModelOptions,
    options: SceneOptions,
    bag_options: BagOptions,
    open_model: OpenModel,
    *,
    retries: int,
    at_once: int,
    as_json: bool,
) -> None:
    """Process what has no results yet, then tell of all; exit code 1 unless every recording is done."""
    found = {path: kind for each in inputs for path, kind in recordings_in(each.absolute()).items()}
    with held(output_dir), terminated_like_interrupted():
        manifest = Manifest(output_dir)
        manifest.add(found)
        if manifest.following(retries):
            with open_model() as hand, redirect_stdout(sys.stderr):

                def process(recording: Recording) -> None:
                    with telling_of(recording.output):
                        _process(recording, manifest, output_dir, hand, model_options, options, bag_options)

                if isinstance(hand, WorkersModel):
                    _side_by_side(manifest, retries, at_once, hand, process)
                else:
                    while recording := manifest.following(retries):
                        process(recording)
    recordings = list(manifest.recordings.values())
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in recordings], indent=2))
    else:
        head = ("state", "seconds", "tries", "recording", "")
        typer.echo(table(head, [_row(each) for each in recordings]))
    if any(each.state != "done" for each in recordings):
        raise typer.Exit(FAILED)


def _row(each: Recording) -> tuple[str, ...]:
    return each.state, f"{each.seconds:.1f}", f"{each.tries}", each.input, each.error or ""


def recordings_in(path: Path) -> Mapping[Path, RecordingKind]:
    """An input with its kind; of a folder of recordings, all that are directly in it, in natural order.

    Raises:
        InputError: there is none.
    """
    kind = _kind(path)
    if kind is not None:
        return {path: kind}
    if path.is_dir():
        inside = {each: _kind(each) for each in sorted(path.iterdir(), key=natural_order) if each.name[0] != "."}
        found = {each: kind for each, kind in inside.items() if kind is not None}
        if found:
            return found
    problem = "holds no recording" if path.is_dir() else "is of no known kind" if path.exists() else "does not exist"
    raise InputError(f"{path} {problem}: give a bag, {describe_inputs()}, or a folder of these")


def _kind(path: Path) -> RecordingKind | None:
    of_bag = [path] if path.is_file() else list(path.glob("*")) if path.is_dir() else []
    if any(each.suffix in STORAGE_SUFFIXES or each.name == METADATA for each in of_bag):
        return "bag"
    return detect(path)


def _side_by_side(
    manifest: Manifest, retries: int, at_once: int, hand: WorkersModel, process: Callable[[Recording], None]
) -> None:
    """Begin one after the other, each in a thread, whenever nothing is under way or workers are idle."""
    with ThreadPoolExecutor(at_once) as threads:
        running: dict[Future[None], str] = {}
        try:
            while (following := manifest.following(retries, running.values())) or running:
                if following and (not running or (len(running) < at_once and hand.is_idle)):
                    running[threads.submit(process, following)] = following.input
                for ended in wait(running, POLL_S, FIRST_COMPLETED).done:
                    del running[ended]
                    ended.result()
        except BaseException:
            hand.end()  # and the threads with it, which are waited for
            raise


def _process(
    recording: Recording,
    manifest: Manifest,
    folder: Path,
    hand: ModelAtHand,
    model_options: ModelOptions,
    options: SceneOptions,
    bag_options: BagOptions,
) -> None:
    """Process one; what goes wrong with it is noted, what goes wrong with all is raised."""
    output = folder / recording.output
    logger.info("%s to %s", recording.input, output)
    recording, start = manifest.note(recording, state="running"), time.perf_counter()

    def note(state: State, error: str | None = None) -> None:
        seconds = round(time.perf_counter() - start, 3)
        manifest.note(recording, state=state, tries=recording.tries + 1, seconds=seconds, error=error)

    try:
        if recording.kind == "bag":
            if output.exists():  # whole, and ended before that was noted
                note("done")
                return
            arguments = BagOutputArguments(output_bag=output, resume=True)
            run_bag(
                Path(recording.input),
                bag_options,
                arguments,
                options,
                lambda: nullcontext(hand),
                CameraOptions(),
                _stage(hand),
            )
        else:
            source = _source(recording, bag_options)
            arguments_of_scene = OutputArguments(export_dir=output, auto_cleanup=True, resume=True)
            run(source, model_options, options, arguments_of_scene, lambda: nullcontext(hand), show=_stage(hand))
        note("done")
    except typer.Exit as ended:
        note("incomplete" if ended.exit_code == FAILED and output.exists() else "failed", "see the log")
    except Exception as error:
        if error is _failure(hand):
            raise
        sentence = error.spelled(option_of) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        logger.error("%s", sentence)
        note("failed", sentence)


def _source(recording: Recording, options: BagOptions) -> Source:
    """Of a video, the part and the frames per second that are taken of bags too."""
    path = Path(recording.input)
    if recording.kind == "image":
        return open_image(path)
    if recording.kind == "images":
        return open_folder(path)
    if recording.kind == "colmap":
        return open_colmap(path, "", undistort=True, alpha=options.rectify_alpha)
    end_s = None if options.duration_s is None else options.start_s + options.duration_s
    return open_video(path, Sampling(options.fps or Sampling.fps, options.start_s, end_s), "png")


def _failure(hand: ModelAtHand) -> InputError | None:
    """After which nobody is left to process the next recording either."""
    return hand.failure if isinstance(hand, WorkersModel) else None


def _stage(hand: ModelAtHand) -> Stage:
    """Shows progress, and ends where the workers have."""

    @contextmanager
    def show(name: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
        with stage(name, total, unit) as advance:

            def advance_or_end(count: int) -> None:
                advance(count)
                if failure := _failure(hand):
                    raise failure

            yield advance_or_end

    return show
