# SPDX-License-Identifier: Apache-2.0
"""Between the camera and the model: a bounded buffer in which the newest frames win, cut into overlapping windows.

While an inference runs, newer frames replace older ones that have not been used. Frames that have been used stay as
long as the next window needs them, so that consecutive windows share frames.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from da3_core.ros_data.images import RefusedMessage
from da3_core.ros_data.maps import MapReason
from da3_core.stream.frame import Frame
from da3_ros.settings import Settings

THUMBNAIL_SIZE = (64, 48)


@dataclass(frozen=True, eq=False)
class Arrival:
    """An image that has arrived, or those of the cameras of a rig that were taken together, which count as one here.

    They are decoded once, when somebody first asks for the frames.

    Attributes:
        stamp_ns: of the first.
        camera: their frame ids.
        names: of their cameras, in the order of the frames; empty for a single one.
    """

    stamp_ns: int
    camera: str
    size_hw: tuple[int, int]
    decode: Callable[[], tuple[Frame, ...]]
    names: tuple[str, ...] = ("",)

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        return self.decode()


@dataclass(frozen=True, eq=False)
class LiveWindow:
    """What one inference takes, oldest first. Windows of another session have nothing to do with each other.

    Attributes:
        reason: why its session began.
    """

    arrivals: tuple[Arrival, ...]
    session: int
    reason: MapReason = "start"

    @property
    def frame_sets(self) -> list[dict[Frame, str]]:
        """The frames of every arrival with the names of their cameras."""
        return [dict(zip(each.frames, each.names, strict=True)) for each in self.arrivals]


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames so far; `skipped` and `refused` by reason."""

    used: int
    skipped: Mapping[str, int]
    refused: Mapping[str, int]
    waiting: int
    filled: float  # of the next window, 0 to 1

    @property
    def received(self) -> int:
        return self.used + sum(self.skipped.values()) + sum(self.refused.values()) + self.waiting


class WindowBuffer:
    """Thread-safe: callbacks put arrivals in, one worker takes windows out.

    A window takes `window.stride` new frames, and as many as `window.max_stride` where they have come meanwhile.
    At most `window.size` and so many frames are held, or `window.size + queue.max_frames` with `every_frame`.
    """

    def __init__(self, settings: Settings) -> None:
        self.apply(settings)
        self._changed = threading.Condition()
        self._session = 0
        self._reasons: dict[int, MapReason] = {0: "start"}  # of the sessions that have not ended
        self._used: list[Arrival] = []  # the last window
        self._used_session = 0
        self._waiting: deque[tuple[int, Arrival]] = deque()  # session and arrival, oldest first
        self._newest: Arrival | None = None
        self._thumbnail: np.ndarray | None = None
        self._used_count = 0
        self._skipped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def apply(self, settings: Settings) -> None:
        """Take over settings; those that are not dynamic must stay."""
        self._settings = settings

    def put(self, arrival: Arrival) -> MapReason | None:
        """Take in a frame.

        Returns:
            Why this frame starts a new session, or None when it goes on with the present one.

        Raises:
            RefusedMessage: a stamp that does not advance, a full queue, or, with a keyframe gate, a image that
                cannot be decoded.
        """
        thumbnail = _thumbnail(arrival.frames[0].image) if self._settings.window.keyframe_min_motion > 0 else None
        with self._changed:
            self._check(arrival)
            session_break = self._session_break(arrival)
            if session_break:
                self._start_session(session_break)
            self._newest = arrival
            if thumbnail is not None and self._is_same_view(thumbnail):
                self._skipped["no motion"] += 1
                return session_break
            self._thumbnail = thumbnail
            self._waiting.append((self._session, arrival))
            if not self._settings.every_frame:
                while len(self._waiting) > self._most(self._session):
                    self._waiting.popleft()
                    self._skipped["replaced"] += 1
            self._changed.notify_all()
            return session_break

    def take(
        self,
        timeout_s: float,
        wanted: Callable[[], bool] = lambda: True,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> LiveWindow | None:
        """The next window as soon as its frames are there and it is `wanted`; None when that is not within the timeout,
        or when the wait is `interrupted`, which is looked at after every `wake`."""

        def count() -> int:
            return self._complete() if wanted() else 0

        with self._changed:
            self._changed.wait_for(lambda: interrupted() or count(), timeout_s)
            frames = 0 if interrupted() else count()
            return self._cut(frames) if frames else None

    def wake(self) -> None:
        """Have `take` look again at whether it goes on waiting."""
        with self._changed:
            self._changed.notify_all()

    def has_window(self) -> bool:
        """Whether the frames of the next window are there."""
        with self._changed:
            return self._complete() > 0

    def take_now(self) -> LiveWindow | None:
        """A window of what is there, the last one again when nothing new is, or None when there is nothing at all."""
        with self._changed:
            if not self._waiting:
                return self._window() if self._used else None
            session = self._waiting[0][0]
            return self._cut(self._count(session))

    def refuse(self, kind: str, arrival: Arrival | None = None) -> None:
        """Count a frame that cannot be used, and forget it if it is held already."""
        with self._changed:
            self._refused[kind] += 1
            if arrival in self._used:
                self._used.remove(arrival)
                self._used_count -= 1

    def skip(self, reason: str) -> None:
        """Count a frame that is not used, though nothing is wrong with it."""
        with self._changed:
            self._skipped[reason] += 1

    def clear(self) -> int:
        """Forget every frame; the next one starts a new session, whose number is returned."""
        with self._changed:
            self._forget_frames()
            self._newest = None
            self._start_session("reset")
            return self._session

    def counts(self) -> FrameCounts:
        with self._changed:
            session = self._waiting[0][0] if self._waiting else self._session
            return FrameCounts(
                used=self._used_count,
                skipped=dict(self._skipped),
                refused=dict(self._refused),
                waiting=len(self._waiting),
                filled=min(1.0, self._count(session) / self._missing(session)),
            )

    def _check(self, arrival: Arrival) -> None:
        newest = self._newest
        if newest is not None and newest.camera == arrival.camera and newest.stamp_ns == arrival.stamp_ns:
            raise RefusedMessage(
                "stamp",
                f"The image has the same stamp as the one before, {arrival.stamp_ns} ns; stamps must advance from "
                "image to image, correct the driver.",
            )
        if self._settings.every_frame and len(self._waiting) >= self._settings.queue.max_frames:
            raise RefusedMessage(
                "queue_full",
                f"The queue holds {len(self._waiting)} frames that wait for the model; send images more slowly, raise "
                "queue.max_frames, or let the newest frame win with every_frame: false.",
            )

    def _session_break(self, arrival: Arrival) -> MapReason | None:
        newest = self._newest
        if newest is None:
            return None
        if arrival.camera != newest.camera:
            return "camera"
        if arrival.size_hw != newest.size_hw:
            return "size"
        if arrival.stamp_ns < newest.stamp_ns:
            return "backwards"
        return "gap" if arrival.stamp_ns - newest.stamp_ns > self._settings.window.max_gap_s * 1e9 else None

    def _start_session(self, reason: MapReason) -> None:
        """With `every_frame`, what waits from the old session is still used first."""
        self._session += 1
        self._reasons[self._session] = reason
        self._thumbnail = None
        if not self._settings.every_frame:
            self._forget_frames()

    def _forget_frames(self) -> None:
        if self._waiting:
            self._skipped["session ended"] += len(self._waiting)
            self._waiting.clear()
        self._used.clear()

    def _is_same_view(self, thumbnail: np.ndarray) -> bool:
        if self._thumbnail is None:
            return False
        return float(np.abs(thumbnail - self._thumbnail).mean()) < self._settings.window.keyframe_min_motion

    def _missing(self, session: int) -> int:
        """New frames that the next window of a session needs."""
        return self._settings.window.stride if self._is_begun(session) else self._settings.window.size

    def _most(self, session: int) -> int:
        """New frames that the next window of a session takes at most."""
        return self._settings.window.most_new if self._is_begun(session) else self._settings.window.size

    def _is_begun(self, session: int) -> bool:
        return bool(self._used) and self._used_session == session

    def _count(self, session: int) -> int:
        """Frames of a session at the head of the queue, as far as the next window can use them."""
        count = 0
        for of_session, _ in self._waiting:
            if of_session != session or count == self._most(session):
                break
            count += 1
        return count

    def _complete(self) -> int:
        """How many waiting frames the next window takes; 0 while it is not complete. A session that has ended
        gives up its last frames in a shorter window."""
        if not self._waiting:
            return 0
        session = self._waiting[0][0]
        count = self._count(session)
        return count if count >= self._missing(session) or session != self._session else 0

    def _cut(self, count: int) -> LiveWindow:
        session = self._waiting[0][0]
        before = self._used if self._used_session == session else []
        new = [self._waiting.popleft()[1] for _ in range(count)]
        self._used = [*before, *new][-self._settings.window.size :]
        self._used_session = session
        self._used_count += count
        self._reasons = {each: reason for each, reason in self._reasons.items() if each >= session}
        return self._window()

    def _window(self) -> LiveWindow:
        return LiveWindow(tuple(self._used), self._used_session, self._reasons[self._used_session])


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Averages of blocks, so that sensor noise does not look like motion."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
