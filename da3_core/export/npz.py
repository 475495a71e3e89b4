# SPDX-License-Identifier: Apache-2.0
"""`npz`: everything about the views as NumPy arrays, `exports/npz/results.npz`."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from da3_core.geometry.cameras import to_homogeneous
from da3_core.prediction import Prediction

# Depth hardly compresses: the highest level is five times slower and wins a few percent.
_COMPRESSION_LEVEL = 1


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """Writes the arrays of `mini_npz` and `image` `(N, H, W, 3)` uint8, the pixels that the network saw."""
    assert prediction.processed_images is not None
    write_arrays(
        folder / "exports/npz/results.npz", essential_arrays(prediction) | {"image": prediction.processed_images}
    )


def essential_arrays(prediction: Prediction) -> dict[str, np.ndarray]:
    """What a prediction knows about its views, by name; what it does not know is absent.

    `exts` and `ixts` repeat `extrinsics` and `intrinsics`. `intrinsics_source` says of every view whether they are
    `known`, `estimated` or `assumed`; if any are assumed, they are `assumed_intrinsics` instead. `scale_factor` is
    NaN when there is none. `original_sizes` holds height and width. `placed` tells which views have a pose and
    `segment` which of them share a world, where that is not all of them as one; the extrinsics of the others are NaN.
    `world` names the axes of the extrinsics.
    """
    source = prediction.intrinsics_source
    arrays = {
        "depth": prediction.depth,
        "conf": prediction.conf,
        "extrinsics": None if prediction.extrinsics is None else to_homogeneous(prediction.extrinsics),
        "intrinsics": prediction.intrinsics,
        "intrinsics_source": None if source is None else np.array(source, dtype=np.str_),
        "assumed_intrinsics": prediction.assumed_intrinsics,
        "sky": prediction.sky,
        "is_metric": np.array(prediction.is_metric),
        "scale_factor": np.array(np.nan if prediction.scale_factor is None else prediction.scale_factor),
        "original_sizes": prediction.original_sizes,
        "placed": None if prediction.segments is None else prediction.placed,
        "segment": prediction.segments,
        "stamps_s": None if prediction.stamps_ns is None else prediction.stamps_ns / 1e9,
        "world": None if prediction.extrinsics is None else np.array(prediction.world),
        "image_names": None if prediction.image_names is None else np.array(prediction.image_names, dtype=np.str_),
    }
    known = {name: array for name, array in arrays.items() if array is not None}
    aliases = {alias: known[name] for name, alias in (("extrinsics", "exts"), ("intrinsics", "ixts")) if name in known}
    return known | aliases


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A compressed `.npz` that `np.load(allow_pickle=False)` reads; the same arrays give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
