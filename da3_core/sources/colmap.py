# SPDX-License-Identifier: Apache-2.0
"""A COLMAP reconstruction as input: images, poses, intrinsics, with the distortion of any camera model undone."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from da3_core.errors import InputError, OptionError
from da3_core.formats.colmap_model import Camera, Image, read_model
from da3_core.sources import SceneImages
from da3_core.sources.images import check_headers, natural_order
from da3_core.storage.staging import write_atomically

logger = logging.getLogger(__name__)

_PINHOLE = ("SIMPLE_PINHOLE", "PINHOLE")
_ROUNDING = 1e-6  # pixels
# As good as nothing is lost.
_SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "WEBP": {"lossless": True},
}


@dataclass(frozen=True, eq=False)
class ColmapReconstruction:
    """The images of a reconstruction that have a file, in the order of their names, with their cameras, as a source.

    Attributes:
        path: the folder that holds `images/` and `sparse/`.
        images: as the model lists them.
        cameras: by id.
        undistort: rectify images of cameras with distortion; else the distortion stays in the images and out of the
            cameras.
    """

    path: Path
    images: tuple[Image, ...]
    cameras: Mapping[int, Camera]
    undistort: bool
    has_cameras: bool = True

    @property
    def views(self) -> int:
        return len(self.images)

    def read(self, make_folder: Callable[[], Path], advance: Callable[[int], object]) -> SceneImages:
        """Files and cameras; rectified images become `input_images/<name>`, of the same name and format.

        Intrinsics are those of the files, also where a file has another size than its camera says.
        """
        paths, intrinsics = [], []
        for image in self.images:
            path, camera = _path_of(image, self.path), self.cameras[image.camera_id]
            matrix = _intrinsics_of_file(path, camera)
            if self.undistort and camera.model not in _PINHOLE:
                target = make_folder() / "input_images" / image.name
                matrix = _undistort_file(path, target, camera, matrix)
                path = target
            paths.append(path)
            intrinsics.append(matrix)
            advance(1)
        return SceneImages(
            tuple(paths), np.stack([image.world_to_camera for image in self.images]), np.stack(intrinsics)
        )


def open_colmap(folder: Path, sparse_subdir: str = "", *, undistort: bool) -> ColmapReconstruction:
    """Look at a reconstruction. Images that are listed but absent are left out, with a warning.

    Args:
        folder: holds `images/` and `sparse/`.
        sparse_subdir: the model within `sparse/`; empty for `sparse/` itself, or `sparse/0` when there is none.
        undistort: see `ColmapReconstruction`.

    Raises:
        InputError: a folder or model is missing or cannot be read, no image is left, or one cannot be read.
    """
    cameras, listed = read_model(find_model(folder, sparse_subdir))
    images = [image for image in listed if _path_of(image, folder).is_file()]
    images.sort(key=lambda image: (Path(image.name).parent, natural_order(Path(image.name))))
    if not images:
        raise InputError(
            f"none of the {len(listed)} images of the COLMAP model is in {folder / 'images'}: put them there"
        )
    if len(images) < len(listed):
        logger.warning(
            "%d of %d images of the COLMAP model have no file and are skipped", len(listed) - len(images), len(listed)
        )
    check_headers(_path_of(image, folder) for image in images)
    for image in images:
        _intrinsics_of_file(_path_of(image, folder), cameras[image.camera_id])
    distorted = sum(cameras[image.camera_id].model not in _PINHOLE for image in images)
    if distorted:
        action = "are rectified" if undistort else "keep their lens distortion, which the cameras leave out"
        logger.info("%d of %d images %s", distorted, len(images), action)
    return ColmapReconstruction(folder, tuple(images), cameras, undistort)


def find_model(folder: Path, sparse_subdir: str = "") -> Path:
    """The folder of the model files; raises InputError that lists the models there are."""
    sparse = folder / "sparse"
    for needed in (folder / "images", sparse):
        if not needed.is_dir():
            raise InputError(f"{needed} is not a folder: a COLMAP folder holds images/ and sparse/")
    candidates = [sparse / sparse_subdir] if sparse_subdir else [sparse, sparse / "0"]
    models = sorted({path.parent for path in sparse.rglob("cameras.*") if path.suffix in (".bin", ".txt")})
    for candidate in candidates:
        if candidate in models:
            return candidate
    found = ", ".join(str(model.relative_to(sparse)) for model in models) or "none"
    raise OptionError(
        "no COLMAP model in {folder}: models found in {sparse}: {found}; choose one with {sparse_subdir}",
        folder=candidates[-1],
        sparse=sparse,
        found=found,
    )


def _path_of(image: Image, folder: Path) -> Path:
    name = Path(image.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"the COLMAP model names the image {image.name!r}: names must stay within the folder images/")
    return folder / "images" / name


def _intrinsics_of_file(path: Path, camera: Camera) -> np.ndarray:
    from PIL import Image as PillowImage

    with PillowImage.open(path) as file:
        width, height = file.size
    if abs(camera.width * height / camera.height - width) > 0.5 * (1 + width / height):  # sides are whole pixels
        is_turned = abs(camera.width * width / camera.height - height) <= 0.5 * (1 + height / width)
        cause = "it was turned since: give it" if is_turned else "it was cropped or stretched since: give it"
        raise InputError(
            f"{path} is {width} x {height} pixels, and its camera took {camera.width} x {camera.height}; "
            f"{cause} as COLMAP had it, or smaller with both sides alike"
        )
    return np.asarray(np.diag([width / camera.width, height / camera.height, 1.0]) @ camera.intrinsics())


def _undistort_file(source: Path, target: Path, camera: Camera, intrinsics: np.ndarray) -> np.ndarray:
    """Writes the image as a pinhole camera would have taken it and returns that camera's `(3, 3)` intrinsics."""
    import cv2
    from PIL import Image as PillowImage

    with PillowImage.open(source) as file:
        image, image_format = np.asarray(file.convert("RGB")), file.format or "PNG"
    pinhole = _widest_filled_pinhole(camera, intrinsics, image.shape[1], image.shape[0])
    u, v = np.meshgrid(np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5)
    seen_at = _project(camera, intrinsics, pinhole, u, v).astype(np.float32)
    # OpenCV counts pixels from their centres.
    rectified = cv2.remap(image, seen_at[..., 0] - 0.5, seen_at[..., 1] - 0.5, cv2.INTER_LINEAR)
    content = BytesIO()
    PillowImage.fromarray(rectified).save(content, image_format, **_SAVING.get(image_format, {}))
    write_atomically(target, content.getvalue())
    return pinhole


def _widest_filled_pinhole(camera: Camera, intrinsics: np.ndarray, width: int, height: int) -> np.ndarray:
    """The camera's own intrinsics, zoomed in (at most twice) until no pixel looks past the border of the source."""
    along = np.linspace(0, 1, 64)
    u = width * np.concatenate([along, along, 0 * along, 0 * along + 1])
    v = height * np.concatenate([0 * along, 0 * along + 1, along, along])
    pinhole = intrinsics
    for zoom in np.geomspace(1, 2, 71):
        pinhole = intrinsics * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
        x, y = np.moveaxis(_project(camera, intrinsics, pinhole, u, v), -1, 0)
        if min(x.min(), y.min()) >= -_ROUNDING and x.max() <= width + _ROUNDING and y.max() <= height + _ROUNDING:
            break
    return pinhole


def _project(camera: Camera, intrinsics: np.ndarray, pinhole: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`(..., 2)`: where the distorted image shows what a pinhole camera would show at `u, v`."""
    x, y = distort(camera, (u - pinhole[0, 2]) / pinhole[0, 0], (v - pinhole[1, 2]) / pinhole[1, 1])
    return np.stack([intrinsics[0, 0] * x + intrinsics[0, 2], intrinsics[1, 1] * y + intrinsics[1, 2]], axis=-1)


def distort(camera: Camera, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens moves the points `x, y` of the plane at depth 1, by the formulas of COLMAP's camera models."""
    values = camera.named_parameters()
    k1, k2, k3, k4, k5, k6, p1, p2, sx1, sx2, sy1, sy2 = (
        values.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "sx1", "sx2", "sy1", "sy2")
    )
    if "DIVISION" in camera.model:
        inverse = 0.5 + np.sqrt(np.maximum(0.25 - values["k"] * (x * x + y * y), 0))
        return x / inverse, y / inverse
    if camera.model == "EUCM":
        depth = 1 - values["alpha"] + values["alpha"] * np.sqrt(1 + values["beta"] * (x * x + y * y))
        return x / depth, y / depth
    radius = np.maximum(np.hypot(x, y), 1e-12)
    if camera.model == "FOV":
        omega = values["omega"]
        if abs(omega) < 1e-6:
            return x, y
        ratio = np.arctan(2 * radius * np.tan(omega / 2)) / (radius * omega)
        return x * ratio, y * ratio
    if "FISHEYE" in camera.model:
        x, y, radius = x * np.arctan(radius) / radius, y * np.arctan(radius) / radius, np.arctan(radius)
    square = radius**2
    if camera.model == "FULL_OPENCV":
        stretch = (1 + square * (k1 + square * (k2 + square * k3))) / (1 + square * (k4 + square * (k5 + square * k6)))
    else:
        stretch = 1 + square * (k1 + square * (k2 + square * (k3 + square * (k4 + square * (k5 + square * k6)))))
    if camera.model == "RAD_TAN_THIN_PRISM_FISHEYE":  # where the rest starts from what is stretched already
        x, y, square, stretch = x * stretch, y * stretch, (x * x + y * y) * stretch**2, 1.0
    return (
        x * stretch + 2 * p1 * x * y + p2 * (square + 2 * x * x) + sx1 * square + sx2 * square**2,
        y * stretch + 2 * p2 * x * y + p1 * (square + 2 * y * y) + sy1 * square + sy2 * square**2,
    )
