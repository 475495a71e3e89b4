# SPDX-License-Identifier: Apache-2.0
"""`depth_vis`: image and coloured depth side by side, `depth_vis/0000.jpg` and so on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.options import option
from da3_core.prediction import Prediction
from da3_core.visualise import colorize_depth, depth_range

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Options:
    common_range: bool = option(False, "One range of colours for all views, so that a video does not flicker.")


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    near, far = depth_range(prediction.depth) if options.common_range else (None, None)
    for view in range(len(prediction.depth)):
        write_jpeg(folder / f"depth_vis/{view:04d}.jpg", side_by_side(prediction, view, near, far))


def side_by_side(prediction: Prediction, view: int, near: float | None = None, far: float | None = None) -> np.ndarray:
    """`(H, 2W, 3)` uint8: the processed image, and right of it its depth, as `colorize_depth` draws it."""
    assert prediction.processed_images is not None
    return np.hstack([prediction.processed_images[view], colorize_depth(prediction.depth[view], near, far)])


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Writes `(H, W, 3)` uint8 RGB; its folder is made."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=JPEG_QUALITY)
