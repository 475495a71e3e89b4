# SPDX-License-Identifier: Apache-2.0
"""`colmap`: cameras, poses and a thinned cloud as a COLMAP model, `sparse/0/{cameras,images,points3D}.bin`."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from da3_core.errors import InputError
from da3_core.export.maps import each_map
from da3_core.export.points import PointCloud, confident_pixels, extract_points
from da3_core.formats.colmap_model import Camera, Image, Points, write_binary, write_text
from da3_core.geometry.cameras import to_homogeneous
from da3_core.options import LEAST_CONFIDENT, option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    max_points: int = option(100_000, "Beyond it points are drawn at random, seeded.", low=0)
    conf_thresh_percentile: float = option(
        LEAST_CONFIDENT,
        "This share of the pixels, the least confident, gives no points. Sky gives none.",
        low=0,
        high=100,
    )
    text: bool = option(False, "Write the model as text too.")
    flat: bool = option(False, "Write into the export folder itself instead of sparse/0.")
    copy_images: bool = option(False, "Copy the image files to images/, where COLMAP and da3 colmap look for them.")
    image_names: Sequence[str | os.PathLike[str]] | None = option(
        None, "Paths or names of the images, in place of the prediction's."
    )


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """One PINHOLE camera per image, in pixels of the images as given; names are relative to their common folder.

    Every point has a track of one observation, the pixel that it came from.

    Raises:
        InputError: `image_names` does not fit the prediction, or two images have the same name.
    """
    paths = list(options.image_names or prediction.image_names or ())
    names = _relative_names([os.fspath(path) for path in paths], len(prediction.depth))
    for one in each_map(prediction, folder):
        chosen = [(paths[view], names[view]) for view in one.views]
        _write_map(one.prediction, one.folder, chosen, options)


def _write_map(
    prediction: Prediction,
    folder: Path,
    paths_and_names: Sequence[tuple[str | os.PathLike[str], str]],
    options: Options,
) -> None:
    keep = confident_pixels(prediction, options.conf_thresh_percentile)
    cloud = extract_points(prediction, prediction.depth, keep, options.max_points)
    cameras, images, points = _model(prediction, [name for _, name in paths_and_names], cloud)

    target = folder if options.flat else folder / "sparse/0"
    target.mkdir(parents=True, exist_ok=True)
    write_binary(target, cameras, images, points)
    if options.text:
        write_text(target, cameras, images, points)
    if options.copy_images:
        for path, name in paths_and_names:
            if not os.path.isfile(path):
                raise InputError(
                    f"colmap cannot copy {os.fspath(path)!r}, which is no file: leave the option copy_images out"
                )
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            with _opened(path) as file, (folder / "images" / name).open("wb") as copy:
                shutil.copyfileobj(file, copy)


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    """As the path opens itself, where it knows how to; see `AllowedFile`."""
    file: BinaryIO = (path if isinstance(path, os.PathLike) and hasattr(path, "open") else Path(path)).open("rb")
    return file


def _relative_names(paths: Sequence[str], views: int) -> list[str]:
    if len(paths) != views:
        raise InputError(f"colmap got {len(paths)} image names for {views} images: give one name per image")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    names = [path.relative_to(common).as_posix() for path in absolute]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"colmap got the image {twice!r} twice: names in a COLMAP model must differ")
    return names


def _model(prediction: Prediction, names: Sequence[str], cloud: PointCloud) -> tuple[list[Camera], list[Image], Points]:
    assert prediction.extrinsics is not None
    assert prediction.usable_intrinsics is not None
    world_to_camera = to_homogeneous(prediction.extrinsics.astype(np.float64))
    original_from_processed, sizes = _original_pixels(prediction)
    intrinsics = original_from_processed @ prediction.usable_intrinsics.astype(np.float64)

    starts = np.searchsorted(cloud.views, np.arange(len(names) + 1))
    point_ids = np.arange(1, len(cloud.views) + 1)
    cameras, images = [], []
    for view, name in enumerate(names):
        own = slice(starts[view], starts[view + 1])
        k = intrinsics[view]
        height, width = sizes[view].tolist()
        parameters = (k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        cameras.append(Camera(view + 1, "PINHOLE", width, height, tuple(map(float, parameters))))
        centres = np.column_stack([cloud.pixels[own] + 0.5, np.ones(own.stop - own.start)])
        seen_at = (centres @ original_from_processed[view].T)[:, :2]
        images.append(Image(view + 1, view + 1, name, world_to_camera[view], seen_at, point_ids[own]))
    observation_numbers = np.arange(len(cloud.views)) - starts[cloud.views]
    return cameras, images, Points(point_ids, cloud.positions, cloud.colors, cloud.views + 1, observation_numbers)


def _original_pixels(prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """`(N, 3, 3)` from pixels of the processed images to those of the images as given, and these images' `(N, 2)`
    heights and widths; a prediction that does not know them stays with its own pixels."""
    count, *size = prediction.depth.shape
    if prediction.processed_from_original is None or prediction.original_sizes is None:
        return np.tile(np.eye(3), (count, 1, 1)), np.tile(size, (count, 1))
    return np.linalg.inv(prediction.processed_from_original), prediction.original_sizes
