# SPDX-License-Identifier: Apache-2.0
"""The files that a visitor may take home."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from da3_core.errors import InputError
from da3_core.export import export
from da3_core.geometry.cameras import format_matrix
from da3_core.prediction import Prediction
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder, staged_file, write_atomically
from da3_core.web.app.clouds import CloudOptions, drawable

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write_downloads(prediction: Prediction, view: int, folder: Path, options: CloudOptions) -> dict[str, Path | None]:
    """Files by what they are called on their buttons; None for what this prediction cannot give."""
    cloud: Prediction | None
    try:
        cloud = drawable(prediction, view, options)
    except InputError:
        cloud = None
    return {
        "GLB": folder / "scene.glb" if cloud else None,
        "NPZ": _npz(prediction, folder),
        "PLY": _ply(cloud, folder, options) if cloud else None,
        "COLMAP": _colmap(cloud, folder, options) if cloud and cloud.extrinsics is not None else None,
        "K.txt": _intrinsics(prediction, folder),
        "Gaussians": next(folder.glob("gs_ply/*.ply"), None),
    }


def _ply(prediction: Prediction, folder: Path, options: CloudOptions) -> Path:
    """Of the largest map, which the page shows too."""
    export(prediction, folder, "ply", **options.export_options())
    return folder / "points.ply"


def _npz(prediction: Prediction, folder: Path) -> Path:
    path = folder / "predictions.npz"
    if not path.exists():  # no control changes it
        names = prediction.image_names and tuple(Path(name).name for name in prediction.image_names)
        with staged_file(path) as file:
            (written,) = export(replace(prediction, image_names=names), file.parent, "npz")["npz"]
            written.rename(file)
    return path


def _colmap(prediction: Prediction, folder: Path, options: CloudOptions) -> Path:
    """`sparse/0` and `images` in one archive, as COLMAP and `da3 colmap` expect them."""
    export_options = options.export_options() | {"export_kwargs": {"colmap": {"copy_images": True}}}
    path = folder / "colmap.zip"
    with opened(folder, make=True) as parent, own_folder(parent) as model, staged_file(path) as written:
        files = export(prediction, model.path, "colmap", **export_options)["colmap"]
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in files:
                entry = zipfile.ZipInfo(file.relative_to(model.path).as_posix(), _ZIP_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return path


def _intrinsics(prediction: Prediction, folder: Path) -> Path | None:
    """`K.txt`: three lines of three numbers a view, in pixels of the images as given; `np.loadtxt` reads it."""
    matrices = prediction.original_intrinsics()
    if matrices is None:
        return None
    assert prediction.original_sizes is not None
    parts = []
    for number, (matrix, (height, width)) in enumerate(zip(matrices, prediction.original_sizes, strict=True)):
        title = f"# view {number}, {width} x {height} pixels\n" if len(matrices) > 1 else ""
        parts.append(title + format_matrix(np.asarray(matrix)))
    write_atomically(folder / "K.txt", "".join(parts).encode())
    return folder / "K.txt"
