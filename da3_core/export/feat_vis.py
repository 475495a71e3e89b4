# SPDX-License-Identifier: Apache-2.0
"""`feat_vis`: backbone features as colours beside the image, a JPEG per view and a video per layer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.depth_vis import write_jpeg
from da3_core.export.video import write_video
from da3_core.options import option
from da3_core.prediction import Prediction

PREFIX = "feat_layer_"
_RANGE = (0.1, 0.9)  # the quantiles of a component that get its first and last shade


@dataclass(frozen=True)
class Options:
    fps: int = option(15, "Frames per second of the videos.", low=1, high=1000)


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """Writes `feat_vis/feat_layer_5/000000.jpg`… and `feat_vis/feat_layer_5.mp4` for every exported layer."""
    for name in sorted(name for name in prediction.aux if name.startswith(PREFIX)):
        frames = _frames(prediction, feature_colors(prediction.aux[name]))
        for view, frame in enumerate(frames):
            write_jpeg(folder / "feat_vis" / name / f"{view:06d}.jpg", frame)
        write_video(folder / "feat_vis" / f"{name}.mp4", frames, options.fps)


def _frames(prediction: Prediction, colors: np.ndarray) -> list[np.ndarray]:
    """Image and features side by side, `(H, 2W, 3)` uint8 per view."""
    assert prediction.processed_images is not None
    height, width = prediction.depth.shape[1:]
    rows = np.arange(height) * colors.shape[1] // height
    columns = np.arange(width) * colors.shape[2] // width
    return [
        np.hstack([image, color[rows[:, None], columns]])
        for image, color in zip(prediction.processed_images, colors, strict=True)
    ]


def feature_colors(features: np.ndarray) -> np.ndarray:
    """The three main directions of the features as red, green and blue, on one scale for all views.

    Principal components of the tokens of all views together. A component's sign is free: its largest loading is made
    positive.

    Args:
        features: `(N, h, w, C)`.

    Returns:
        `(N, h, w, 3)` uint8.
    """
    mean = np.mean([_clean(view).mean(axis=0) for view in features], axis=0)
    # View by view, for the tokens of a long video do not fit into memory twice.
    covariance = np.zeros((len(mean), len(mean)))
    for view in features:
        centred = _clean(view) - mean
        covariance += centred.T @ centred
    components = np.linalg.eigh(covariance)[1][:, :-4:-1]
    largest = np.abs(components).argmax(axis=0)
    components *= np.sign(components[largest, np.arange(components.shape[1])])

    projected = np.stack([(_clean(view) - mean) @ components for view in features])
    low, high = np.quantile(projected, _RANGE, axis=(0, 1))
    shades = np.clip((projected - low) / np.maximum(high - low, 1e-4), 0, 1) * 255
    return np.asarray(shades.astype(np.uint8).reshape(*features.shape[:3], 3))


def _clean(view: np.ndarray) -> np.ndarray:
    """`(h*w, C)` float64 tokens; broken values become 0 and, if infinite, large."""
    tokens = view.reshape(-1, view.shape[-1]).astype(np.float64)
    return np.asarray(np.nan_to_num(tokens, nan=0.0, posinf=1e6, neginf=-1e6))
