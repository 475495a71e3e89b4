# SPDX-License-Identifier: Apache-2.0
"""From uploads to the image files of a session: upright, readable by everything, none lost to another of its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps

from da3_core.errors import InputError
from da3_core.formats.image_files import BadImageError, open_image_file
from da3_core.preprocessing import decode, decoding_threads
from da3_core.sources.images import IMAGE_EXTENSIONS, natural_order
from da3_core.sources.video import Sampling, open_video
from da3_core.storage.allowed_folders import IMAGE_FORMATS

HEIC_EXTENSIONS = ("heic", "heif")
MAX_FRAMES = 400  # of a video; more would rather be processed on the command line
_JPEG_QUALITY, _PNG_COMPRESSION = 95, 1
_ORIENTATION = 0x0112  # EXIF
_THUMBNAIL = (320, 240)
_LABELS = {
    "fps": "Sampling FPS",
    "method": "Image Processing Method",
    "infer_gs": "Infer 3D Gaussian Splatting",
    "camera_path": "Trajectory",
    "quality": "Quality",
    "ref_view_strategy": "Reference View Strategy",
    "focal_length_px": "Focal Length",
    "hfov_deg": "Angle of View",
    "focal_from_exif": "Focal Length from EXIF",
    "camera_matrix": "Camera Matrix",
    "show_cameras": "Show Camera",
    "filter_black": "Filter Black Background",
    "filter_white": "Filter White Background",
    "filter_percentage": "Filter Percentage",
    "max_points": "Max Points",
}


def label_of(option: str) -> str:
    """What the control of the page is called that sets an option of the library."""
    return _LABELS.get(option, option)


def take_images(uploads: Iterable[Path], folder: Path) -> tuple[Path, ...]:
    """Copies of image files in `folder`, in natural order of their names; a second `a.jpg` becomes `a_2.jpg`.

    What lies on its side is written anew, upright and without loss, as PNG, and HEIC as JPEG, with its other EXIF tags;
    everything else is copied byte by byte.

    Raises:
        InputError: a file is no image, or HEIC and its reader is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_take(upload, folder) for upload in sorted(uploads, key=natural_order))


def take_frames(
    video: Path, fps: float, folder: Path, advance: Callable[[int, int], object]
) -> tuple[tuple[Path, ...], bool]:
    """Frames of a video as files below `folder`, chosen by their time stamps from the first frame on.

    Args:
        advance: is told how many of how many frames are written.

    Returns:
        The files, and whether a lower rate than `fps` was taken because there are `MAX_FRAMES`.

    Raises:
        InputError: the file is no video, or it has no frames.
    """
    try:
        frames = open_video(video, Sampling(fps, max_frames=MAX_FRAMES), "png")
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            advance(done, frames.views)

        files = tuple(map(Path, frames.read(lambda: folder, count).images))
    except InputError as error:
        raise InputError(error.spelled(label_of).replace(str(video), video.name)) from None
    thinned = len(files) == MAX_FRAMES and frames.times_s[-1] * fps > MAX_FRAMES
    return files, thinned


def thumbnails(images: Sequence[Path]) -> list[tuple[Image.Image, str]]:
    """A small image and a caption of every image.

    Raises:
        InputError: a file is damaged behind its header.
    """
    with ThreadPoolExecutor(decoding_threads(images)) as pool:
        return [(thumbnail, path.name) for thumbnail, path in zip(pool.map(_thumbnail, images), images, strict=True)]


def _thumbnail(path: Path) -> Image.Image:
    try:
        thumbnail = Image.fromarray(decode(path))
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    thumbnail.thumbnail(_THUMBNAIL)
    return thumbnail


def _take(upload: Path, folder: Path) -> Path:
    extension = upload.suffix[1:].lower()
    is_heic = extension in HEIC_EXTENSIONS
    if is_heic:
        _register_heic(upload.name)
    elif extension not in IMAGE_EXTENSIONS:
        allowed = ", ".join(IMAGE_EXTENSIONS + HEIC_EXTENSIONS)
        raise InputError(f"{upload.name} does not look like a image: upload files ending in {allowed}")
    try:
        with open_image_file(upload, ("HEIF",) if is_heic else IMAGE_FORMATS) as image:
            if is_heic or image.getexif().get(_ORIENTATION, 1) != 1:
                upright = ImageOps.exif_transpose(image)
                path = _free_name(folder, f"{upload.stem}.{'jpg' if is_heic else 'png'}")
                upright.convert("RGB").save(
                    path, exif=upright.getexif(), quality=_JPEG_QUALITY, compress_level=_PNG_COMPRESSION
                )
                return path
    except Exception as error:  # decoders raise almost anything at a broken file
        why = f" ({error.strerror})" if isinstance(error, BadImageError) else ""
        raise InputError(f"{upload.name} is no image that can be read{why}: export it anew as JPEG or PNG") from error
    return Path(shutil.copyfile(upload, _free_name(folder, upload.name)))


def _free_name(folder: Path, name: str) -> Path:
    path, number = folder / name, 2
    while path.exists():
        path = folder / f"{Path(name).stem}_{number}{Path(name).suffix}"
        number += 1
    return path


def _register_heic(name: str) -> None:
    if find_spec("pi_heif") is None:
        raise InputError(f"{name}: HEIC images need `pip install pi-heif` on the server; or upload them as JPEG")
    import pi_heif

    pi_heif.register_heif_opener()
