# SPDX-License-Identifier: Apache-2.0
"""Which recorded images are inferred together: as the live node does with `every_frame`, without its threads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.ros_data.maps import MapReason
from da3_core.stream.frame import Frame
from da3_core.stream.inference import Decoded, decoded_views


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """A frame of a bag.

    Attributes:
        frame: its image and what is known about its camera.
        time_ns: when the image was recorded; this may be later than its stamp.
        camera: the name of the camera among those of a rig; empty for a single one.
        root: the root of the tree of transforms that the camera is in; None where that is unknown.
        camera_to_root: `(4, 4)` pose of the camera in it.
    """

    frame: Frame
    time_ns: int
    camera: str = ""
    root: str | None = None
    camera_to_root: np.ndarray | None = None


FrameSet = tuple[RecordedFrame, ...]  # the images of all cameras that were taken together, in the order of the cameras


@dataclass(frozen=True, eq=False)
class RecordedWindow:
    """What one inference takes, oldest first. Windows of another session have nothing to do with each other.

    Attributes:
        reason: why its session began.
        old: how many of its frame sets, the first ones, the window before it had too.
    """

    frame_sets: tuple[FrameSet, ...]
    session: int
    reason: MapReason = "start"
    old: int = 0

    @property
    def recorded(self) -> tuple[RecordedFrame, ...]:
        return tuple(each for frame_set in self.frame_sets for each in frame_set)

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(each.frame for each in self.recorded)

    def decoded(self, most: int | None) -> Decoded:
        """The frames whose depth a session asks for, if it could place all that the window before had.

        Args:
            most: `SessionOptions.decoded_again`.
        """
        old = sum(map(len, self.frame_sets[: self.old]))
        return decoded_views(self.frames, range(old), most)


def cut_windows(frame_sets: Iterable[FrameSet], size: int, stride: int, max_gap_s: float) -> Iterator[RecordedWindow]:
    """Windows of `size` frame sets, each but the first with `stride` new ones.

    A gap in time, time going backwards, another size or another camera starts a new session. The last frame sets of a
    session are given up in a window with fewer new ones.
    """
    used: list[FrameSet] = []
    waiting: list[FrameSet] = []
    session, newest = 0, None
    reason: MapReason = "start"
    for frame_set in frame_sets:
        cut = _session_break(newest, frame_set, max_gap_s) if newest is not None else None
        if cut is not None:
            if waiting:
                yield _window(used, waiting, size, session, reason)
            used, waiting, session, reason = [], [], session + 1, cut
        newest = frame_set
        waiting.append(frame_set)
        if len(waiting) == (stride if used else size):
            window = _window(used, waiting, size, session, reason)
            used, waiting = list(window.frame_sets), []
            yield window
    if waiting:
        yield _window(used, waiting, size, session, reason)


def _window(
    used: Sequence[FrameSet], new: Sequence[FrameSet], size: int, session: int, reason: MapReason
) -> RecordedWindow:
    return RecordedWindow((*used, *new)[-size:], session, reason, max(0, min(len(used), size - len(new))))


def _session_break(
    before: Sequence[RecordedFrame], after: Sequence[RecordedFrame], max_gap_s: float
) -> MapReason | None:
    pairs = [(old.frame, new.frame) for old, new in zip(before, after, strict=True)]
    elapsed_ns = [new.stamp_ns - old.stamp_ns for old, new in pairs]
    if any(old.camera != new.camera for old, new in pairs):
        return "camera"
    if any(old.image.shape != new.image.shape for old, new in pairs):
        return "size"
    if min(elapsed_ns) < 0:
        return "backwards"
    return "gap" if max(elapsed_ns) > max_gap_s * 1e9 else None
