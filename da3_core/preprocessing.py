# SPDX-License-Identifier: Apache-2.0
"""From images of any kind to the one tensor the network takes, with the bookkeeping that intrinsics need."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from da3_core.errors import ImageError, InputError
from da3_core.formats.image_files import MAX_PIXELS, BadImageError, TooManyPixelsError, open_image_file
from da3_core.options import PATCH_SIZE, PROCESS_RES, InferenceOptions, ProcessResMethod, check_options

if TYPE_CHECKING:
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MAX_ASPECT_RATIO = 20
DECODING_THREADS = 8

_Resized: TypeAlias = tuple[np.ndarray, np.ndarray, tuple[int, int]]
ImageInput: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Batch:
    """N images of one scene, all of one processed size.

    Attributes:
        tensor: `(1, N, 3, H, W)` float32, normalised with the ImageNet mean and deviation.
        images: `(N, H, W, 3)` uint8 RGB, the exact pixels behind `tensor`.
        original_sizes: `(N, 2)` int64 height and width of the images as given.
        processed_from_original: `(N, 3, 3)` float64, `K_processed = processed_from_original @ K_original`.
        names: file paths or names, None unless every image has one.
    """

    tensor: torch.Tensor
    images: np.ndarray
    original_sizes: np.ndarray
    processed_from_original: np.ndarray
    names: tuple[str, ...] | None


def preprocess(
    images: Iterable[ImageInput],
    process_res: int = PROCESS_RES,
    process_res_method: ProcessResMethod = InferenceOptions.process_res_method,
    *,
    apply_exif: bool = False,
) -> Batch:
    """Decodes, resizes, unifies and normalises.

    Each image is resized so that its longer (`upper_bound_*`) or shorter (`lower_bound_*`) side is `process_res`, then
    both sides are made multiples of 14, by a second small resize (`*_resize`) or a centre crop (`*_crop`). Images that
    still differ in size are centre-cropped to the smallest height and width.

    Args:
        images: paths, PIL images, arrays or tensors. Arrays are RGB (OpenCV's BGR must be converted), `(H, W, 3)`,
            `(H, W, 4)` with the alpha channel dropped, or grey `(H, W)`, of type uint8, uint16 (scaled to 8 bits) or
            float in [0, 1]. Tensors may also be `(3, H, W)`.
        apply_exif: turn images upright by their EXIF tag. Off, because intrinsics refer to pixels as stored.

    Raises:
        ImageError: names the image by index and path.
        InputError: there is none, or an option is not allowed.
    """
    check_options(InferenceOptions, {"process_res": process_res, "process_res_method": process_res_method})
    given = list_images(images)
    resized = _map_in_order(lambda image: _prepare(image, process_res, process_res_method, apply_exif), given)

    height = min(image.shape[0] for image, _, _ in resized)
    width = min(image.shape[1] for image, _, _ in resized)
    if any(image.shape[:2] != (height, width) for image, _, _ in resized):
        log.warning(
            "images differ in size after resizing; each is centre-cropped to %d x %d, which loses field of view",
            width,
            height,
        )
    cropped = [_crop(image, transform, height, width) for image, transform, _ in resized]

    pixels = np.stack([image for image, _ in cropped])
    return Batch(
        tensor=normalise(pixels),
        images=pixels,
        original_sizes=np.array([size for _, _, size in resized], np.int64),
        processed_from_original=np.stack([transform for _, transform in cropped]),
        names=image_names(given),
    )


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """`(N, H, W, 3)` uint8 to `(1, N, 3, H, W)` float32 as the network was trained: `(x / 255 - mean) / std`."""
    import torch

    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return tensor.div_(255).sub_(mean).div_(std)[None]


def list_images(images: Any) -> list[ImageInput]:
    """The images of a request, none of them opened yet."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image) or getattr(images, "ndim", 4) in (2, 3):
        raise InputError(f"image is a single {type(images).__name__}; give a list of images, [image]")
    try:
        listed = list(images)
    except TypeError as error:
        raise InputError(f"image is {type(images).__name__}; give a list of paths, PIL images or arrays") from error
    if not listed:
        raise InputError("no images; give at least one")
    return listed


def decode(image: ImageInput, *, apply_exif: bool = False) -> np.ndarray:
    """One image of any accepted kind as `(H, W, 3)` uint8 RGB, in the caller's memory where it is that already."""
    if isinstance(image, str | os.PathLike | Image.Image):
        return _decode_source(image, apply_exif)
    if hasattr(image, "detach"):  # a torch tensor, without importing torch
        array = image.detach().cpu().numpy()
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4)
        return _decode_array(array.transpose(1, 2, 0) if channels_first else array)
    if isinstance(image, np.ndarray):
        return _decode_array(image)
    raise InputError(f"an image of type {type(image).__name__} is not understood; give a path, a PIL image or an array")


def _decode_source(source: str | os.PathLike[str] | Image.Image, apply_exif: bool) -> np.ndarray:
    try:
        if isinstance(source, Image.Image):
            return _decode_pil(source, apply_exif)
        with open_image_file(source) as opened:
            return _decode_pil(opened, apply_exif)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError("no such file; check the path") from error
    except TooManyPixelsError as error:
        raise InputError(f"it has too many pixels ({error.strerror}); make it smaller first") from error
    except BadImageError as error:
        raise InputError(f"{error.strerror}; replace the file") from error
    except UnidentifiedImageError as error:
        raise InputError("not an image of a known format; convert it to PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"it has too many pixels ({error}); make it smaller first") from error
    except Exception as error:  # decoders raise almost anything at a broken file
        raise InputError(f"it cannot be decoded ({error}); replace the file") from error


def _decode_pil(image: Image.Image, apply_exif: bool) -> np.ndarray:
    if apply_exif:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):  # PIL would clip these to 255
        array = np.asarray(image)
        return _decode_array(array.astype(np.uint16) if _fits_16_bits(array) else array)
    return _decode_array(np.asarray(image.convert("RGB")))


def _fits_16_bits(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 65535


def _decode_array(array: np.ndarray) -> np.ndarray:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise InputError(f"an array of shape {array.shape} is not an image; give (H, W, 3) RGB, (H, W, 4) or (H, W)")
    if grey:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(_to_8_bits(array[..., :3]))


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return np.asarray((array.astype(np.uint32) + 128) // 257, np.uint8)
    if array.dtype.kind != "f":
        raise InputError(f"an array of {array.dtype} is not understood; give uint8, uint16 or float in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"a float image holds values from {low:g} to {high:g}; give values in [0, 1] or uint8")
    return np.asarray(np.rint(array.astype(np.float32) * 255), np.uint8)


def image_names(images: Iterable[ImageInput]) -> tuple[str, ...] | None:
    """The path or name of every image, or None where one has none."""
    names = tuple(_name(image) for image in images)
    return names if all(names) else None


def _name(image: ImageInput) -> str:
    return os.fspath(image) if isinstance(image, str | os.PathLike) else str(getattr(image, "filename", ""))


def _map_in_order(prepare: Callable[[ImageInput], _Resized], images: list[ImageInput]) -> list[_Resized]:
    """`prepare` over all images, several at a time; the first failure stops the rest.

    An object that is given several times is prepared once: PIL images must not be decoded by two threads.
    """
    first_use = {id(image): index for index, image in reversed(list(enumerate(images)))}
    if len(first_use) == 1:
        return [_named(prepare, 0, images[0])] * len(images)
    with ThreadPoolExecutor(decoding_threads(images)) as pool:
        results = {key: pool.submit(_named, prepare, index, images[index]) for key, index in first_use.items()}
        try:
            return [results[id(image)].result() for image in images]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def decoding_threads(images: Sequence[ImageInput]) -> int:
    """How many images may be decoded at once, so that their pixels are no more than one image may have."""
    most = 1
    for image in dict.fromkeys(image for image in images if isinstance(image, str | os.PathLike)):
        with suppress(OSError), open_image_file(image) as opened:
            most = max(most, opened.width * opened.height)
    return max(1, min(DECODING_THREADS, len(images), MAX_PIXELS // most))


def _named(prepare: Callable[[ImageInput], _Resized], index: int, image: ImageInput) -> _Resized:
    try:
        return prepare(image)
    except InputError as error:
        name = _name(image)
        raise ImageError(index, f"image {index}{f' ({name})' if name else ''}: {error}") from error


def _prepare(image: ImageInput, process_res: int, method: ProcessResMethod, apply_exif: bool) -> _Resized:
    """One image decoded, resized and cropped to multiples of 14: pixels, 3x3 transform, original (height, width)."""
    pixels = decode(image, apply_exif=apply_exif)
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise InputError(
            f"{width} x {height} pixels is too narrow; sides may differ by a factor of {MAX_ASPECT_RATIO}, so crop it"
        )
    scale = process_res / (max(height, width) if method.startswith("upper") else min(height, width))
    pixels = _resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))

    if method.endswith("resize"):
        new_height, new_width = ((side + PATCH_SIZE // 2) // PATCH_SIZE * PATCH_SIZE for side in pixels.shape[:2])
    else:
        new_height, new_width = (side // PATCH_SIZE * PATCH_SIZE for side in pixels.shape[:2])
    if min(new_height, new_width) < PATCH_SIZE:
        raise InputError(
            f"{width} x {height} pixels would become {pixels.shape[1]} x {pixels.shape[0]}, less than one patch of "
            f"{PATCH_SIZE} x {PATCH_SIZE}; raise process_res or crop the long side"
        )
    if method.endswith("resize"):
        pixels = _resize(pixels, new_height, new_width)
    scale_to_processed = np.diag([pixels.shape[1] / width, pixels.shape[0] / height, 1.0])
    pixels, transform = _crop(pixels, scale_to_processed, new_height, new_width)
    return pixels, transform, (height, width)


def _resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cubic where a side grows, area-averaging otherwise."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import cv2

    grows = height > pixels.shape[0] or width > pixels.shape[1]
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA))


def _crop(pixels: np.ndarray, transform: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    return pixels[top : top + height, left : left + width], shift @ transform
