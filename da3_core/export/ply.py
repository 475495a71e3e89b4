# SPDX-License-Identifier: Apache-2.0
"""`ply`: the coloured point cloud in world coordinates, `points.ply`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.maps import each_map
from da3_core.export.points import PointCloud, confident_pixels, extract_points
from da3_core.formats.ply import write_vertices
from da3_core.options import LEAST_CONFIDENT, option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    num_max_points: int = option(1_000_000, "Beyond it points are drawn at random, seeded.", low=0)
    conf_thresh_percentile: float = option(
        LEAST_CONFIDENT,
        "This share of the pixels, the least confident, is dropped. Sky is dropped always.",
        low=0,
        high=100,
    )


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    for one in each_map(prediction, folder):
        keep = confident_pixels(one.prediction, options.conf_thresh_percentile)
        cloud = extract_points(one.prediction, one.prediction.depth, keep, options.num_max_points)
        write_cloud(one.folder / "points.ply", cloud, one.prediction.world)


def write_cloud(path: Path, cloud: PointCloud, world: str) -> None:
    """A cloud with its colours; a comment in the header says in which axes."""
    vertices = np.zeros(len(cloud.positions), "<f4, <f4, <f4, u1, u1, u1")
    vertices.dtype.names = ("x", "y", "z", "red", "green", "blue")
    for axis, (coordinate, channel) in enumerate(zip(("x", "y", "z"), ("red", "green", "blue"), strict=True)):
        vertices[coordinate], vertices[channel] = cloud.positions[:, axis], cloud.colors[:, axis]
    write_vertices(path, vertices, f"world: {world}")
