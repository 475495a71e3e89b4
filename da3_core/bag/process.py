# SPDX-License-Identifier: Apache-2.0
"""A bag through a model: images in, what the live node publishes out, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.copies import TopicCopies
from da3_core.bag.messages import MessageMaker, topics_of, typestore
from da3_core.bag.options import BagOptions, Storage
from da3_core.bag.read import BagMessage
from da3_core.bag.topics import topics_to_copy
from da3_core.bag.windows import RecordedFrame, RecordedWindow, cut_windows
from da3_core.bag.write import BagWriter, OpenFolder, open_or_make
from da3_core.errors import ImageError, InputError
from da3_core.prediction import Prediction
from da3_core.ros_data.session_options import session_options
from da3_core.stream.frame import Frame
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.session import Session, SessionOptions, WindowResult


class Stopped(Exception):
    """Raised by `infer` to end a bag before the window that it was given, as `stop` does."""


@dataclass(frozen=True)
class BagSummary:
    """What became of a bag.

    Attributes:
        frames: images that were inferred.
        refused: images that could not be used, by kind of reason.
        reasons: the first one of each kind, in words.
        maps: how many maps the images make; within each, poses and depths share one unit.
        damage: what was wrong with the input, which was processed up to there; None for a whole bag.
        stopped: whether it was ended early, by `stop` or `Stopped`.
        without_pose: images that were used without a pose though poses were asked for.
        calibration_refused: images that were used with the model's camera since their CameraInfo could not be, by kind
            of reason.
    """

    frames: int
    refused: dict[str, int]
    maps: int
    damage: str | None
    stopped: bool
    without_pose: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    calibration_refused: dict[str, int] = field(default_factory=dict)

    @property
    def refusals(self) -> str:
        """How many images were refused and why, in words; empty where none was."""
        because = [f"{count} because {self.reasons[kind]}" for kind, count in self.refused.items()]
        return f"{sum(self.refused.values())} images were refused, {', '.join(because)}" if because else ""

    @property
    def refused_most(self) -> bool:
        return sum(self.refused.values()) > self.frames


def process_bag(
    camera: RecordedCamera,
    infer: Callable[..., Prediction],
    options: BagOptions,
    output: Path,
    storage: Storage,
    *,
    model_name: str,
    advance: Callable[[int], object],
    stop: Callable[[], bool],
    on_result: Callable[[WindowResult, int], object],
    ahead: Callable[[Iterable[RecordedWindow]], Iterator[RecordedWindow]] = iter,
    open_parent: OpenFolder = open_or_make,
) -> BagSummary:
    """Write the results of a camera's images to the new bag `output`.

    Args:
        camera: opened with the same options.
        infer: the model with its inference options, as of `Session`; it may raise `Stopped`.
        model_name: what the messages call the model.
        advance: told how many more images are done.
        stop: asked between windows; true ends the bag here, valid and shorter.
        on_result: given every result and the number of its session.
        ahead: gives the windows that it is given, having read some more of them to begin with their inference.
        open_parent: see `BagWriter`.

    Every message lies at the time at which its image was recorded.

    Raises:
        InputError: there is an output already, no topic to copy, or no image that can be used; nothing is written then.
        OutputError: the new bag cannot be written; nothing of it is left.
    """
    bag = camera.bag
    copied = topics_to_copy(bag, options.copy_topics)
    store = typestore()
    session = Session(infer, session_of(options), LiveLoops(infer, in_background=False))
    maker = MessageMaker(store, model_name, options)
    topics = topics_of(camera.names)
    frames, maps, number, stopped = 0, set(), -1, False
    last: RecordedWindow | None = None  # of this session that became a result
    inferred: tuple[Frame, ...] = ()  # by the last window, whether it succeeded or not

    with BagWriter(output, storage, open_parent) as writer:
        copies = TopicCopies(bag, copied, writer)
        in_turn = _InTurn(copies.copy)
        for topic, type_name in topics.items():
            if not writer.has(topic):  # /tf may be a copy already
                writer.add(topic, type_name, store)

        def write(messages: Iterable[tuple[str, RecordedFrame, Any]]) -> None:
            for topic, recorded, message in messages:
                writer.write(topic, recorded.time_ns, store.serialize_cdr(message, topics[topic]))

        def settle(window: RecordedWindow) -> None:
            """Close a loop that the last window of a session found."""
            if result := session.settle():
                write(maker.settled(result, window))
                on_result(result, window.session)

        read = cut_windows(
            camera.frame_sets(copies.topics, in_turn.copy), options.window, options.stride, options.max_gap_s
        )
        for window in in_turn.taken(ahead(in_turn.read(read))):
            if stop():
                stopped = True
                break
            new = len({*window.frames} - {*inferred})
            inferred = window.frames
            try:
                if window.session != number:
                    if last:
                        settle(last)
                    session.reset()
                    number, last = window.session, None
                result = session.process(window.frames)
            except Stopped:
                stopped = True
                break
            except ImageError as error:
                camera.refuse_unusable(error, new)
                continue
            last = window
            write(maker.of(result, window))
            on_result(result, number)
            frames += new
            maps.add((number, result.segment))
            advance(new)
        if last and not stopped:
            settle(last)
        refused = {kind: count for kind, count in camera.refused.items() if count}
        if not frames and not stopped:
            because = BagSummary(0, refused, 0, None, False, reasons=camera.reasons).refusals
            none = f"none of the images on {', '.join(camera.topics)} could be used"
            raise InputError(bag.damage or f"{none}{because and f': {because}'}")
    return BagSummary(
        *(frames, refused, len(maps), bag.damage, stopped, camera.without_pose, camera.reasons),
        calibration_refused=dict(camera.calibration_refused),
    )


def session_of(options: BagOptions) -> SessionOptions:
    """What a session of a bag is told."""
    fixed = options.metres_per_unit
    scale = "fixed" if fixed else options.scale
    return session_options(
        scale, fixed or 1.0, options.camera_height_m, options.map_up, alignment_views=options.alignment_views
    )


class _InTurn:
    """Copies messages of the old bag between the results, where they lie among the images, however far ahead windows
    are read. What was read ahead waits; nothing does where a window is taken as soon as it is read."""

    def __init__(self, copy: Callable[[BagMessage], None]) -> None:
        self._copy = copy
        self._waiting: deque[tuple[int, BagMessage]] = deque()  # with the number of windows read before it
        self._read = self._taken = 0

    def copy(self, message: BagMessage) -> None:
        if self._read == self._taken and not self._waiting:
            self._copy(message)
        else:
            self._waiting.append((self._read, message))

    def read(self, windows: Iterable[RecordedWindow]) -> Iterator[RecordedWindow]:
        for window in windows:
            self._read += 1
            yield window

    def taken(self, windows: Iterable[RecordedWindow]) -> Iterator[RecordedWindow]:
        for window in windows:
            self._write_up_to(self._taken)
            self._taken += 1
            yield window
        self._write_up_to(self._read)

    def _write_up_to(self, windows: int) -> None:
        while self._waiting and self._waiting[0][0] <= windows:
            self._copy(self._waiting.popleft()[1])
