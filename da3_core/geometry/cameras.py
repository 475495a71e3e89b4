# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms and camera centres, and the checks that given cameras must pass."""

from typing import Any

import numpy as np

from da3_core.errors import ImageError, InputError

RIGID_TOLERANCE = 1e-2  # largest entry of |RᵀR - I|; cameras read from text files keep about four digits
SMALLEST_MEDIAN_BASELINE = 0.1


def to_homogeneous(transform: np.ndarray) -> np.ndarray:
    """`(..., 3, 4)` or `(..., 4, 4)` to `(..., 4, 4)` with last row 0 0 0 1, same dtype, always a copy."""
    transform = np.asarray(transform)
    result = np.zeros((*transform.shape[:-2], 4, 4), transform.dtype)
    result[..., :3, :] = transform[..., :3, :]
    result[..., 3, 3] = 1
    return result


def invert_rigid(transform: np.ndarray) -> np.ndarray:
    """Inverse of rigid `(..., 3, 4)` or `(..., 4, 4)` transforms, `[Rᵀ | -Rᵀt]`, as `(..., 4, 4)` of the same dtype."""
    transform = np.asarray(transform)
    rotation_inverse = np.swapaxes(transform[..., :3, :3], -1, -2)
    inverse = to_homogeneous(transform)
    inverse[..., :3, :3] = rotation_inverse
    inverse[..., :3, 3] = -(rotation_inverse @ transform[..., :3, 3:])[..., 0]
    return inverse


def format_matrix(matrix: np.ndarray) -> str:
    """Rows as lines of numbers with six decimals, which `np.loadtxt` reads."""
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in matrix)


def camera_centres(world_to_camera: np.ndarray) -> np.ndarray:
    """`(N, 3)` float64 positions in the world of `(N, 4, 4)` or `(N, 3, 4)` world-to-camera transforms."""
    camera_to_world = invert_rigid(np.asarray(world_to_camera, np.float64))
    centres: np.ndarray = camera_to_world[..., :3, 3]
    return centres


def normalise_trajectory(world_to_camera: np.ndarray) -> np.ndarray:
    """Cameras as the camera encoder was trained to see them.

    The first view becomes the identity, and translations are divided by the median distance of the camera centres from
    the first one. The median counts the first view's own zero and takes the lower of two middle values, and the
    divisor is at least 0.1, so two views have their baseline multiplied by 10: released weights expect it that way.

    Args:
        world_to_camera: `(N, 4, 4)` rigid.

    Returns:
        `(N, 4, 4)` float64.
    """
    world_to_camera = to_homogeneous(np.asarray(world_to_camera, np.float64))
    first_to_camera: np.ndarray = world_to_camera @ invert_rigid(world_to_camera[0])
    distances = np.sort(np.linalg.norm(camera_centres(first_to_camera), axis=-1))
    first_to_camera[:, :3, 3] /= max(distances[(len(distances) - 1) // 2], SMALLEST_MEDIAN_BASELINE)
    return first_to_camera


def check_extrinsics(extrinsics: Any, views: int) -> np.ndarray:
    """`(N, 4, 4)` floating-point copy of given world-to-camera matrices, its dtype kept.

    Raises:
        InputError: they are not `(N, 4, 4)` or `(N, 3, 4)` for N images, not finite, or not rigid.
    """
    given = _to_array(extrinsics, "extrinsics")
    if given.shape not in ((views, 4, 4), (views, 3, 4)):
        raise InputError(
            f"extrinsics have shape {given.shape} for {views} images; give one world-to-camera matrix per image, "
            f"shape ({views}, 4, 4) or ({views}, 3, 4)"
        )
    if given.shape[1] == 4 and not np.allclose(given[:, 3], (0, 0, 0, 1), atol=1e-6):
        raise InputError(
            "the last row of an extrinsics matrix is not 0 0 0 1; give world-to-camera matrices "
            "with the translation in the last column (transpose them if it is in the last row)"
        )
    rotation = given[:, :3, :3].astype(np.float64)
    error = np.abs(np.swapaxes(rotation, 1, 2) @ rotation - np.eye(3)).max(axis=(1, 2))
    worst = int(np.argmax(np.where(np.linalg.det(rotation) > 0, error, np.inf)))
    if np.linalg.det(rotation[worst]) <= 0 or error[worst] > RIGID_TOLERANCE:
        raise ImageError(
            worst,
            f"extrinsics of image {worst} are not rigid (|RᵀR - I| = {error[worst]:.3g}, "
            f"det R = {np.linalg.det(rotation[worst]):.3g}, allowed: 0 and 1); give world-to-camera matrices [R | t] "
            "without scale or mirroring, and invert camera-to-world ones first",
        )
    return to_homogeneous(given)


def check_intrinsics(intrinsics: Any, views: int) -> np.ndarray:
    """`(N, 3, 3)` float64 copy of given intrinsics; raises InputError unless they are finite pinhole matrices."""
    given = _to_array(intrinsics, "intrinsics").astype(np.float64)
    if given.shape != (views, 3, 3):
        raise InputError(
            f"intrinsics have shape {given.shape} for {views} images; give one matrix per image, shape ({views}, 3, 3)"
        )
    pinhole = (given[:, 0, 0] > 0) & (given[:, 1, 1] > 0) & (given[:, 1, 0] == 0) & (given[:, 2] == (0, 0, 1)).all(-1)
    if not pinhole.all():
        bad = int(np.argmin(pinhole))
        raise InputError(
            f"intrinsics of image {bad} are {given[bad].tolist()}; "
            "give [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy in pixels of the image as given"
        )
    return given


def _to_array(values: Any, name: str) -> np.ndarray:
    """A finite floating-point array from an array, nested lists or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        array = np.array(values)
        array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} are {type(values).__name__}; give an array of numbers ({error})") from error
    if not np.isfinite(array).all():
        raise InputError(f"{name} contain NaN or infinity; leave out the images whose camera is unknown")
    return array
