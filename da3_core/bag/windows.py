# SPDX-License-Identifier: Apache-2.0
"""Which recorded images are inferred together: as the live node does with `every_frame`, without its threads."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from da3_core.frame import Frame


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """A frame, and when its image was recorded; this may be later than its stamp."""

    frame: Frame
    time_ns: int


@dataclass(frozen=True, eq=False)
class Window:
    """What one inference takes, oldest first. Windows of another session have nothing to do with each other."""

    recorded: tuple[RecordedFrame, ...]
    session: int

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(each.frame for each in self.recorded)


def cut_windows(frames: Iterable[RecordedFrame], size: int, stride: int, max_gap_s: float) -> Iterator[Window]:
    """Windows of `size` frames, each but the first with `stride` new ones.

    A gap in time, time going backwards, another size or another camera starts a new session. The last frames of a
    session are given up in a window with fewer new ones.
    """
    used: list[RecordedFrame] = []
    waiting: list[RecordedFrame] = []
    session, newest = 0, None
    for each in frames:
        if newest is not None and _starts_session(newest, each.frame, max_gap_s):
            if waiting:
                yield Window((*used, *waiting)[-size:], session)
            used, waiting, session = [], [], session + 1
        newest = each.frame
        waiting.append(each)
        if len(waiting) == (stride if used else size):
            used, waiting = [*used, *waiting][-size:], []
            yield Window(tuple(used), session)
    if waiting:
        yield Window((*used, *waiting)[-size:], session)


def _starts_session(before: Frame, frame: Frame, max_gap_s: float) -> bool:
    elapsed_ns = frame.stamp_ns - before.stamp_ns
    other_images = frame.camera != before.camera or frame.image.shape != before.image.shape
    return other_images or elapsed_ns < 0 or elapsed_ns > max_gap_s * 1e9
