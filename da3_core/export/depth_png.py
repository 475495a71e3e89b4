# SPDX-License-Identifier: Apache-2.0
"""`depth_png`: depth in millimetres as 16-bit greyscale, `depth_png/0000.png` and so on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.points import has_depth
from da3_core.prediction import Prediction

_MILLIMETRES = 1000.0
_LARGEST = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """Thousandths of the depth's unit, millimetres when it is metric; 0 where depth is invalid or beyond 65.535."""
    from PIL import Image

    (folder / "depth_png").mkdir()
    for view, depth in enumerate(prediction.depth):
        values = np.where(has_depth(depth), np.rint(depth * _MILLIMETRES), 0)
        values[values > _LARGEST] = 0
        Image.fromarray(values.astype(np.uint16)).save(folder / f"depth_png/{view:04d}.png", compress_level=1)
