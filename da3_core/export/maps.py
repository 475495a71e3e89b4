# SPDX-License-Identifier: Apache-2.0
"""The maps of a prediction, for the formats that hold camera poses: one map is one file."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from da3_core.prediction import Prediction

_MOST_NAMED = 6  # spans of views in a sentence


@dataclass(frozen=True, eq=False)
class Map:
    """Views that share a world.

    Attributes:
        prediction: of these views alone.
        views: their `(M,)` numbers among all views.
        folder: where the files of this map go.
    """

    prediction: Prediction
    views: np.ndarray
    folder: Path


def each_map(prediction: Prediction, folder: Path) -> Iterator[Map]:
    """The largest map, of `folder` itself, then the second of `folder/map_2` and so on; views without pose are in none.

    A single view without a pose is a map, in its own camera axes.
    """
    if prediction.extrinsics is None and len(prediction.depth) == 1:
        yield Map(prediction, np.arange(1), folder)
    for number, views in enumerate(prediction.maps, 1):
        own = prediction if len(views) == len(prediction.depth) else prediction.views(views)
        yield Map(own, views, folder if number == 1 else folder / f"map_{number}")


def said_of_views(prediction: Prediction, formats: Collection[str]) -> str | None:
    """What files of these formats, which hold poses, lack, in one sentence; None where every view is in one map."""
    maps, count = prediction.maps, len(prediction.depth)
    lost = np.flatnonzero(~prediction.placed).tolist()
    if prediction.segments is None or not formats or (not lost and len(maps) == 1):
        return None
    names = ", ".join(formats)
    if not maps:
        return f"none of the {count} views could be placed: {names} hold no poses"
    said = []
    if lost:
        have = "has" if len(lost) == 1 else "have"
        said.append(f"{_views(prediction, lost)} of {count} could not be placed and {have} no pose in {names}")
    if len(maps) > 1:
        spans = "; ".join(_spans(views.tolist()) for views in maps)
        said.append(f"the {'others' if lost else f'{count} views'} make {len(maps)} maps: {spans}")
    return ", ".join(said)


def said_of_others(count: int, names: Sequence[str], formats: Collection[str]) -> str:
    """As `said_of_views`, of views that a prediction does not hold."""
    more = "" if count == len(names) else f" and {count - len(names)} more"
    number, have = ("1 image", "has") if count == 1 else (f"{count} images", "have")
    return f"{number} could not be placed and {have} no pose in {', '.join(formats)}: {', '.join(names)}{more}"


def _views(prediction: Prediction, numbers: Sequence[int]) -> str:
    names = prediction.image_names
    text = f"view{'s' * (len(numbers) > 1)} {_spans(numbers)}"
    if names is None or len(numbers) > _MOST_NAMED:
        return text
    return f"{text} ({', '.join(Path(names[number]).name for number in numbers)})"


def _spans(numbers: Sequence[int]) -> str:
    """`0 to 4, 7`."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    more = [] if len(texts) <= _MOST_NAMED else [f"{len(texts) - _MOST_NAMED} more"]
    return ", ".join(texts[:_MOST_NAMED] + more)
