# SPDX-License-Identifier: Apache-2.0
"""`ply`: the coloured point cloud in world coordinates, `points.ply`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.points import confident_pixels, extract_points
from da3_core.formats.ply import write_vertices
from da3_core.options import option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    num_max_points: int = option(1_000_000, "Beyond it points are drawn at random, seeded.", low=0)
    conf_thresh_percentile: float = option(
        40.0, "This share of the pixels, the least confident, is dropped. Sky is dropped always.", low=0, high=100
    )


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    keep = confident_pixels(prediction, options.conf_thresh_percentile)
    cloud = extract_points(prediction, prediction.depth, keep, options.num_max_points)
    vertices = np.zeros(len(cloud.positions), "<f4, <f4, <f4, u1, u1, u1")
    vertices.dtype.names = ("x", "y", "z", "red", "green", "blue")
    for axis, (coordinate, channel) in enumerate(zip(("x", "y", "z"), ("red", "green", "blue"), strict=True)):
        vertices[coordinate], vertices[channel] = cloud.positions[:, axis], cloud.colors[:, axis]
    write_vertices(folder / "points.ply", vertices)
