# SPDX-License-Identifier: Apache-2.0
"""Images of a bag by their places in it, read where their pixels are needed: by other processes, by index ranges."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.bag.read import BagReader
from da3_core.bag.topics import COMPRESSED
from da3_core.ros_data.images import compressed_to_rgb, image_to_rgb

MOST_KEPT = 64  # decoded images, which the next windows show again


@dataclass(frozen=True)
class RecordedPixels:
    """The place of an image that needs no others to be decoded: an absolute path, a topic and when it was recorded."""

    bag: Path
    topic: str
    time_ns: int


class PixelReader:
    """Reads images by their places; keeps the bags open, and the last images."""

    def __init__(self) -> None:
        self._bags: dict[Path, BagReader] = {}
        self._images: OrderedDict[RecordedPixels, np.ndarray] = OrderedDict()

    def read(self, places: Sequence[RecordedPixels]) -> list[np.ndarray]:
        """`(H, W, 3)` uint8 RGB of each, as the bag has it: 16-bit values by all their bits, nothing rectified.

        Raises:
            InputError: no such bag here, or no such image in it.
            KeyError: likewise.
        """
        missing = [place for place in places if place not in self._images]
        for bag in {place.bag for place in missing}:
            self._read_range(bag, [place for place in missing if place.bag == bag])
        images = [self._images[place] for place in places]
        for place in places:
            self._images.move_to_end(place)
        while len(self._images) > max(MOST_KEPT, len(places)):
            self._images.popitem(last=False)
        return images

    def _read_range(self, path: Path, places: Sequence[RecordedPixels]) -> None:
        """From the first to the last of them."""
        if path not in self._bags:
            self._bags[path] = BagReader(path)
        bag, wanted = self._bags[path], set(places)
        times = [place.time_ns for place in places]
        for message in bag.messages({place.topic for place in places}, min(times), max(times) + 1):
            place = RecordedPixels(path, message.topic, message.time_ns)
            if place in wanted:
                decode = compressed_to_rgb if bag.types[message.topic] == COMPRESSED else image_to_rgb
                self._images[place] = decode(bag.decode(message))
