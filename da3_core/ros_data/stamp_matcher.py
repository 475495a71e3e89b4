# SPDX-License-Identifier: Apache-2.0
"""Images of several cameras that were taken together find each other by their stamps."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

MOST_WAITING = 32  # images per camera; topics are recorded with less delay against each other


class Stamped(Protocol):
    """What has a stamp in nanoseconds."""

    @property
    def stamp_ns(self) -> int: ...


Item = TypeVar("Item", bound=Stamped)


class StampMatcher(Generic[Item]):
    """Groups of one item per camera whose stamps differ by at most `slop_ns`, in constant memory.

    Attributes:
        unmatched: how many items found no others.
    """

    def __init__(self, cameras: int, slop_ns: int) -> None:
        self._waiting: list[deque[Item]] = [deque() for _ in range(cameras)]
        self._last: list[int | None] = [None] * cameras
        self._slop_ns = slop_ns
        self.unmatched = 0

    def put(self, camera: int, item: Item) -> Iterator[tuple[Item, ...]]:
        """Take in the next item of a camera; the groups that are complete now."""
        last, self._last[camera] = self._last[camera], item.stamp_ns
        if last is not None and item.stamp_ns < last:
            self._begin_again(camera, item.stamp_ns)
        self._waiting[camera].append(item)
        if len(self._waiting[camera]) > MOST_WAITING:
            self._drop(camera)
        while all(self._waiting):
            stamps = [waiting[0].stamp_ns for waiting in self._waiting]
            if max(stamps) - min(stamps) <= self._slop_ns:
                yield tuple(waiting.popleft() for waiting in self._waiting)
            else:
                self._drop(stamps.index(min(stamps)))

    def finish(self) -> None:
        """Count what still waits as unmatched."""
        self.unmatched += sum(map(len, self._waiting))

    def _begin_again(self, camera: int, stamp_ns: int) -> None:
        """Time went backwards, as when a bag is played in a loop: drop what is of before."""
        for each, waiting in enumerate(self._waiting):
            while waiting and (each == camera or waiting[0].stamp_ns > stamp_ns + self._slop_ns):
                self._drop(each)

    def _drop(self, camera: int) -> None:
        self._waiting[camera].popleft()
        self.unmatched += 1
