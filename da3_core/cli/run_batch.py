# SPDX-License-Identifier: Apache-2.0
"""Many recordings with one model, whose workers stay: what fails is noted and tried again, the others go on."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import typer

from da3_core.bag.options import BagOptions
from da3_core.bag.read import METADATA, STORAGE_SUFFIXES
from da3_core.cli.arguments import BagOutputArguments, OutputArguments
from da3_core.cli.at_hand import ModelAtHand, model_at_hand
from da3_core.cli.failures import FAILED, terminated_like_interrupted
from da3_core.cli.manifest import Manifest, Recording, RecordingKind, State, held
from da3_core.cli.run import run
from da3_core.cli.run_bag import run_bag
from da3_core.cli.spelling import option_of
from da3_core.cli.table import table
from da3_core.cluster.options import ClusterOptions
from da3_core.errors import InputError
from da3_core.options import CameraOptions, ModelOptions, SceneOptions
from da3_core.sources import Source
from da3_core.sources.colmap import open_colmap
from da3_core.sources.detect import describe_inputs, detect
from da3_core.sources.images import natural_order, open_folder, open_image
from da3_core.sources.video import Sampling, open_video

logger = logging.getLogger(__name__)


def run_batch(
    inputs: Sequence[Path],
    output_dir: Path,
    model_options: ModelOptions,
    options: SceneOptions,
    bag_options: BagOptions,
    cluster: ClusterOptions,
    *,
    retries: int,
    as_json: bool,
) -> None:
    """Process what has no results yet, then tell of all; exit code 1 unless every recording is done."""
    found = {path: kind for each in inputs for path, kind in recordings_in(each.absolute()).items()}
    with held(output_dir), terminated_like_interrupted():
        manifest = Manifest(output_dir)
        manifest.add(found)
        if manifest.to_do(retries):
            with model_at_hand(model_options, cluster) as hand, redirect_stdout(sys.stderr):
                while to_do := manifest.to_do(retries):
                    for recording in to_do:
                        _process(recording, manifest, output_dir, hand, model_options, options, bag_options)
    recordings = list(manifest.recordings.values())
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in recordings], indent=2))
    else:
        head = ("state", "seconds", "tries", "recording", "")
        rows = [
            (each.state, f"{each.seconds:.1f}", f"{each.tries}", each.input, each.error or "") for each in recordings
        ]
        typer.echo(table(head, rows))
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
            run_bag(Path(recording.input), bag_options, arguments, options, lambda: nullcontext(hand), CameraOptions())
        else:
            source = _source(recording, bag_options)
            arguments_of_scene = OutputArguments(export_dir=output, auto_cleanup=True, resume=True)
            run(source, model_options, options, arguments_of_scene, lambda: nullcontext(hand))
        note("done")
    except typer.Exit as ended:
        note("incomplete" if ended.exit_code == FAILED and output.exists() else "failed", "see the log")
    except Exception as error:
        if _is_of_all(error):
            raise
        sentence = error.spelled(option_of) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        logger.error("%s: %s", recording.input, sentence)
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


def _is_of_all(error: Exception) -> bool:
    """Whether nobody is left to process the next recording either."""
    from da3_core.cluster.pool import WorkersLost

    return isinstance(error, WorkersLost)
