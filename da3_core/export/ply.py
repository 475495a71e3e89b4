# SPDX-License-Identifier: Apache-2.0
"""`ply`: the coloured point cloud in world coordinates, `points.ply`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.options import number
from da3_core.export.points import confident_pixels, extract_points
from da3_core.formats.ply import write_vertices
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    """
    Attributes:
        num_max_points: beyond it points are drawn at random, seeded.
        conf_thresh_percentile: this share of the pixels, the least confident, is dropped. Sky is dropped always.
    """

    num_max_points: int = number(1_000_000, 0)
    conf_thresh_percentile: float = number(40.0, 0, 100)


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    keep = confident_pixels(prediction, options.conf_thresh_percentile)
    cloud = extract_points(prediction, prediction.depth, keep, options.num_max_points)
    vertices = np.zeros(len(cloud.positions), "<f4, <f4, <f4, u1, u1, u1")
    vertices.dtype.names = ("x", "y", "z", "red", "green", "blue")
    for axis, (coordinate, channel) in enumerate(zip(("x", "y", "z"), ("red", "green", "blue"), strict=True)):
        vertices[coordinate], vertices[channel] = cloud.positions[:, axis], cloud.colors[:, axis]
    write_vertices(folder / "points.ply", vertices)
