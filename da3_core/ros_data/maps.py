# SPDX-License-Identifier: Apache-2.0
"""Which map a result is in: every map of a node's life, or of a bag, has a number and a reason why it began."""

from dataclasses import dataclass, replace
from typing import Literal

from da3_core.stream.session import WindowResult

MapReason = Literal["start", "reset", "gap", "backwards", "size", "camera", "lost"]


@dataclass(frozen=True)
class MapState:
    """A map.

    Attributes:
        segment: its number.
        reason: why the one before it ended.
        began_ns: stamp of its first view.
    """

    segment: int
    reason: MapReason
    began_ns: int


class MapCount:
    """Numbers maps in the order in which they begin.

    Attributes:
        present: the newest one; None before the first.
    """

    def __init__(self) -> None:
        self.present: MapState | None = None
        self._session = self._segment = -1

    def restart(self) -> None:
        """What follows is a new map, also where its session has the number of one before."""
        self._session = -1

    def take_in(self, result: WindowResult, session: int, reason: MapReason) -> WindowResult:
        """The result with the number of its map as `segment`; `present` is that map.

        Args:
            session: counts the streams of images that were cut off from those before; `segment` the maps of each.
            reason: why its session began.
        """
        if (session, result.segment) != (self._session, self._segment):
            why: MapReason = "lost" if session == self._session else reason
            number = self.present.segment + 1 if self.present else 0
            self.present = MapState(number, why, result.views[0].frame.stamp_ns)
            self._session, self._segment = session, result.segment
        assert self.present is not None
        return replace(result, segment=self.present.segment)
