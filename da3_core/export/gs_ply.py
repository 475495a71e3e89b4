# SPDX-License-Identifier: Apache-2.0
"""`gs_ply`: the Gaussians as splat viewers read them, `gs_ply/0000.ply`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.export.gaussians import GaussianArrays, gaussian_arrays
from da3_core.formats.ply import write_vertices
from da3_core.geometry.similarity import Similarity
from da3_core.options import option
from da3_core.prediction import Prediction

_BORDER = 8 / 256  # share of the rows and columns at each side whose Gaussians see too little
_FAR_QUANTILE = 0.9  # of the depth of a view; what is farther is blurred background
_SMALLEST_SCALE = 1e-12
_HALF_TURN_ABOUT_X = Similarity(1.0, np.diag([1.0, -1.0, -1.0]), np.zeros(3))

_PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


@dataclass(frozen=True)
class Options:
    gs_views_interval: int | None = option(1, "Take the Gaussians of every such view.", low=1, unset="about 12 views")
    network_units: bool = option(
        False, "Leave positions in the frame and the unit of the network, instead of those of depth and poses."
    )
    upright: bool = option(False, "Turn half around x, for viewers whose y points up.")


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """Colours are of degree 0, without the higher harmonics; nothing is dropped by opacity or confidence."""
    gaussians = gaussian_arrays(prediction, in_network_frame=options.network_units)
    if options.upright:
        gaussians = gaussians.transformed(_HALF_TURN_ABOUT_X)
    keep = _select_pixels(prediction.depth, options.gs_views_interval) & gaussians.finite()
    write_vertices(folder / "gs_ply/0000.ply", _vertices(gaussians, keep))


def _select_pixels(depth: np.ndarray, interval: int | None) -> np.ndarray:
    """`(G,)` bool: the pixels whose Gaussians are written, which have the order of the pixels."""
    views, height, width = depth.shape
    keep = np.zeros(depth.shape, bool)
    rows, columns = int(_BORDER * height), int(_BORDER * width)
    keep[:: interval or max(views // 12, 1), rows : height - rows, columns : width - columns] = True
    farthest = np.quantile(np.where(np.isfinite(depth), depth, np.inf), _FAR_QUANTILE, axis=(1, 2), keepdims=True)
    return (keep & (depth <= farthest)).ravel()


def _vertices(gaussians: GaussianArrays, keep: np.ndarray) -> np.ndarray:
    columns = np.zeros((np.count_nonzero(keep), len(_PROPERTIES)), "<f4")
    opacity = np.clip(gaussians.opacities[keep], 1e-6, 1 - 1e-6)
    columns[:, 0:3] = gaussians.means[keep]
    columns[:, 6:9] = gaussians.harmonics[keep, :, 0]
    columns[:, 9] = np.log(opacity) - np.log1p(-opacity)
    columns[:, 10:13] = np.log(np.maximum(gaussians.scales[keep], _SMALLEST_SCALE))
    columns[:, 13:17] = gaussians.rotations[keep]
    return columns.view([(name, "<f4") for name in _PROPERTIES])[:, 0]
