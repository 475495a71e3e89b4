# SPDX-License-Identifier: Apache-2.0
"""From a bag to a bag: the model and the input are opened, the work is shown, Ctrl-C ends it well."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import BagSummary, process_bag, session_of
from da3_core.bag.read import BagReader
from da3_core.bag.write import OutputError
from da3_core.cli.arguments import BagOutputArguments
from da3_core.cli.at_hand import OpenModel, inference_at_hand
from da3_core.cli.failures import FAILED, INTERRUPTED, report, terminated_like_interrupted
from da3_core.cli.progress import stage
from da3_core.cli.written import sizes, tell_files
from da3_core.errors import InputError, OptionError
from da3_core.export import check_request, export, left_out
from da3_core.options import CameraOptions, InferenceOptions
from da3_core.pipeline import Stage
from da3_core.ros_data.conventions import in_map_axes
from da3_core.sources.given_camera import given_camera
from da3_core.stream.inference import WindowRow, bind_frames
from da3_core.stream.record import SessionRecord

logger = logging.getLogger(__name__)

EXPORTED_VIEWS = 200  # of the longest map; a node keeps half as many by default, beside its stream and all its life


def run_bag(
    input_bag: Path,
    options: BagOptions,
    arguments: BagOutputArguments,
    inference: InferenceOptions,
    open_model: OpenModel,
    camera_options: CameraOptions,
    show: Stage = stage,
) -> None:
    """Write the new bag, then the exports, then say what became of it; damage and Ctrl-C show in the exit code."""
    output = arguments.output_bag or Path(f"{input_bag.resolve().stem}_da3")
    if output.exists():
        raise InputError(f"{output} exists: name another --output-bag, or remove it")
    given = given_camera(camera_options)
    if given is not None and options.intrinsics != "auto":
        raise OptionError("{intrinsics} {source} contradicts a given camera: leave one out", source=options.intrinsics)
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(input_bag))
        camera = RecordedCamera(bag, options, None if given is None else given.of_size)
        logger.info("%s", camera.described)
        hand = stack.enter_context(open_model())
        model = hand.model
        chosen = model.check(inference)
        if arguments.export_dir:
            check_request(
                arguments.export_format,
                model.preset,
                views=options.window,
                intrinsics_known=True,
                poses_from_features=chosen.pose_method == "features" and options.window >= 2,
                **arguments.export_options(),
            )
        record, rows = SessionRecord(EXPORTED_VIEWS, "longest_map"), list[WindowRow]()
        resumed, request_of = output if arguments.resume else None, bind_frames(model, chosen)
        try:
            with (
                inference_at_hand(hand, request_of, chosen, rows.append, resumed=resumed) as infer,
                _interruptible(arguments.resume) as is_interrupted,
                show("frames", camera.expected_frames(), "frames") as advance,
            ):
                summary = process_bag(
                    camera,
                    infer,
                    options,
                    output,
                    arguments.storage,
                    model_name=model.source,
                    advance=advance,
                    stop=is_interrupted,
                    on_result=record.add if arguments.export_dir else lambda result, session: None,
                    ahead=lambda windows: infer.ahead(
                        windows,
                        lambda window: window.frames,
                        lambda window: window.decoded(session_of(options).decoded_again),
                    ),
                )
        except OutputError as error:  # the input is right, the place is not
            report(error)
            raise typer.Exit(FAILED) from None
    lacking, files = None, {}
    if arguments.export_dir and summary.frames:
        prediction = in_map_axes(record.prediction(), options.map_frame, options.odom_frame)
        formats = arguments.export_format
        lacking = left_out(prediction, formats, record.unplaced)
        files = export(prediction, arguments.export_dir, formats, **arguments.export_options())
    if arguments.json:
        typer.echo(json.dumps(_told(input_bag, output, summary, files, rows), indent=2))
    else:
        typer.echo(output)
        tell_files(files)
    _report(summary)
    if lacking:
        typer.echo(f"error: {lacking}", err=True)
        raise typer.Exit(FAILED)


@contextmanager
def _interruptible(resume: bool) -> Iterator[Callable[[], bool]]:
    """What is yielded says whether the bag is to end early; one that can be resumed leaves none instead."""
    if resume:
        with terminated_like_interrupted():
            yield lambda: False
    else:
        with until_interrupted() as is_interrupted:
            yield is_interrupted


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C or SIGTERM only makes what is yielded true; the second is as always."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        put_back()
        logger.warning("the bag ends after this window; once more to leave nothing")

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        put_back()


def _told(
    input_bag: Path,
    output: Path,
    summary: BagSummary,
    files: Mapping[str, Sequence[Path]],
    rows: Sequence[WindowRow],
) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "input": str(input_bag),
        "output": str(output),
        **asdict(summary),
        "files": sizes(files),
        "windows": [asdict(row) for row in rows],
    }


def _report(summary: BagSummary) -> None:
    done = f"{summary.frames} frames in {summary.maps} map{'s' * (summary.maps != 1)}"
    logger.info("%s", done)
    if summary.refused and not summary.refused_most:
        logger.warning("%s", summary.refusals)
    if summary.without_pose:
        logger.warning("%d images were used without a pose: the bag has no transforms for them", summary.without_pose)
    if summary.calibration_refused:
        reasons = ", ".join(f"{count} for {kind}" for kind, count in summary.calibration_refused.items())
        logger.warning("images were used with the model's camera since their CameraInfo was refused: %s", reasons)
    if summary.stopped:
        typer.echo("interrupted: the bag holds what was done until then", err=True)
        raise typer.Exit(INTERRUPTED)
    if summary.damage:
        typer.echo(f"error: {summary.damage}: the bag holds what could be read, {done}", err=True)
        raise typer.Exit(FAILED)
    if summary.refused_most:
        typer.echo(f"error: {summary.refusals}: the bag holds the others, {done}", err=True)
        raise typer.Exit(FAILED)
