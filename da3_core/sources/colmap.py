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
from da3_core.formats.image_files import open_image_file
from da3_core.geometry.distortion import Rectification, rectification
from da3_core.sources import SceneImages
from da3_core.sources.images import check_headers, natural_order
from da3_core.storage.staging import write_atomically

logger = logging.getLogger(__name__)

WARNED_BELOW = 0.6  # of the pixels of a camera
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
        alpha: how much of the field of view is kept, see `geometry.distortion.rectification`.
    """

    path: Path
    images: tuple[Image, ...]
    cameras: Mapping[int, Camera]
    undistort: bool
    alpha: float
    has_cameras: bool = True

    @property
    def views(self) -> int:
        return len(self.images)

    def read(self, make_folder: Callable[[], Path], advance: Callable[[int], object]) -> SceneImages:
        """Files and cameras; rectified images become `input_images/<name>`, of the same name and format.

        Intrinsics are those of the files, also where a file has another size than its camera says.
        """
        paths, intrinsics = [], []
        kept: dict[int, float] = {}
        used, rectify = None, None  # images of one camera, which mostly follow each other, share the maps
        for image in self.images:
            path, camera = _path_of(image, self.path), self.cameras[image.camera_id]
            size_hw, matrix = _size_of(path), _intrinsics_of_file(path, camera)
            if self.undistort and not camera.lens().is_pinhole:
                if rectify is None or used != (camera.id, size_hw):
                    used, rectify = (camera.id, size_hw), _rectification(camera, matrix, size_hw, self.alpha)
                    kept[camera.id] = rectify.kept
                target = make_folder() / "input_images" / image.name
                _rectify_file(path, target, rectify)
                path, matrix = target, rectify.intrinsics
            paths.append(path)
            intrinsics.append(matrix)
            advance(1)
        if kept:
            _tell_kept(min(kept.values()), self.alpha)
        return SceneImages(
            tuple(paths), np.stack([image.world_to_camera for image in self.images]), np.stack(intrinsics)
        )


def open_colmap(folder: Path, sparse_subdir: str = "", *, undistort: bool, alpha: float = 0.0) -> ColmapReconstruction:
    """Look at a reconstruction. Images that are listed but absent are left out, with a warning.

    Args:
        folder: holds `images/` and `sparse/`.
        sparse_subdir: the model within `sparse/`; empty for `sparse/` itself, or `sparse/0` when there is none.
        undistort, alpha: see `ColmapReconstruction`.

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
    distorted = sum(not cameras[image.camera_id].lens().is_pinhole for image in images)
    if distorted:
        action = "are rectified" if undistort else "keep their lens distortion, which the cameras leave out"
        logger.info("%d of %d images %s", distorted, len(images), action)
    return ColmapReconstruction(folder, tuple(images), cameras, undistort, alpha)


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


def _size_of(path: Path) -> tuple[int, int]:
    """Height and width of a file."""
    with open_image_file(path) as file:
        return file.height, file.width


def _intrinsics_of_file(path: Path, camera: Camera) -> np.ndarray:
    height, width = _size_of(path)
    if abs(camera.width * height / camera.height - width) > 0.5 * (1 + width / height):  # sides are whole pixels
        is_turned = abs(camera.width * width / camera.height - height) <= 0.5 * (1 + height / width)
        cause = "it was turned since: give it" if is_turned else "it was cropped or stretched since: give it"
        raise InputError(
            f"{path} is {width} x {height} pixels, and its camera took {camera.width} x {camera.height}; "
            f"{cause} as COLMAP had it, or smaller with both sides alike"
        )
    return np.asarray(np.diag([width / camera.width, height / camera.height, 1.0]) @ camera.intrinsics())


def _rectification(camera: Camera, intrinsics: np.ndarray, size_hw: tuple[int, int], alpha: float) -> Rectification:
    try:
        return rectification(camera.lens(), intrinsics, size_hw, alpha)
    except InputError as error:
        raise InputError(f"camera {camera.id} of the COLMAP model cannot be rectified: {error}") from error


def _tell_kept(share: float, alpha: float) -> None:
    more = "" if alpha == 1 else "; a rectify alpha nearer to 1 keeps more"
    level = logging.WARNING if share < WARNED_BELOW else logging.INFO
    logger.log(level, "rectified images keep %.0f %% of the pixels or more%s", 100 * share, more)


def _rectify_file(source: Path, target: Path, rectify: Rectification) -> None:
    from PIL import Image as PillowImage

    with open_image_file(source) as file:
        image, image_format = np.asarray(file.convert("RGB")), file.format or "PNG"
    content = BytesIO()
    PillowImage.fromarray(rectify(image)).save(content, image_format, **_SAVING.get(image_format, {}))
    write_atomically(target, content.getvalue())
