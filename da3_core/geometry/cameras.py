# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms and camera centres, and the checks that given cameras must pass."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from da3_core.errors import ImageError, InputError

RIGID_TOLERANCE = 1e-2  # largest entry of |RᵀR - I|; cameras read from text files keep about four digits
SMALLEST_MEDIAN_BASELINE = 0.1
LARGEST_FOCAL_RATIO = 2.5  # of the two focal lengths; interlaced video comes near 2
LARGEST_SKEW = 0.01  # of the focal length
FARTHEST_CENTRE = 1.0  # image sides beyond the border; parts cut out of an image may be without its centre

CameraFault = Literal["values", "matrix", "focal", "skew", "centre"]

STRAIGHT = 0.999  # cosine to the vertical, beyond which a camera has no heading


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


def check_intrinsics(intrinsics: Any, views: int, sizes_hw: Sequence[Any] | np.ndarray | None = None) -> np.ndarray:
    """`(N, 3, 3)` float64 copy of given intrinsics.

    Args:
        sizes_hw: heights and widths of the N images; without them, principal points are not checked.

    Raises:
        InputError: they are not one finite matrix per image.
        ImageError: one is no pinhole camera's, see `camera_fault`.
    """
    given = _to_array(intrinsics, "intrinsics").astype(np.float64)
    if given.shape != (views, 3, 3):
        raise InputError(
            f"intrinsics have shape {given.shape} for {views} images; give one matrix per image, shape ({views}, 3, 3)"
        )
    for i, matrix in enumerate(given):
        if fault := camera_fault(matrix, None if sizes_hw is None else sizes_hw[i]):
            raise ImageError(
                i,
                f"intrinsics of image {i} are {matrix.tolist()}, with {fault[1]}; "
                "give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the image as given",
            )
    return given


def camera_fault(
    intrinsics: np.ndarray, size_hw: Sequence[int] | np.ndarray | None = None
) -> tuple[CameraFault, str] | None:
    """What makes a `(3, 3)` matrix none of a pinhole camera, of an image of `size_hw` where that is known, in words."""
    if not np.isfinite(intrinsics).all():
        return "values", "NaN or infinity"
    fx, skew, cx, fy, cy = intrinsics[[0, 0, 0, 1, 1], [0, 1, 2, 1, 2]]
    if fx <= 0 or fy <= 0:
        return "focal", f"the focal lengths {fx:g} and {fy:g}, which must be positive fx and fy"
    if intrinsics[1, 0] != 0 or tuple(intrinsics[2]) != (0, 0, 1):
        return "matrix", "a lower left that is not 0, 0 0 1"
    if max(fx, fy) > LARGEST_FOCAL_RATIO * min(fx, fy):
        return "focal", f"the focal lengths {fx:g} and {fy:g}, which differ by more than a factor of 2.5"
    if abs(skew) > LARGEST_SKEW * fx:
        return "skew", f"a skew of {skew:g}, as if pixels leaned"
    if size_hw is not None:
        sides = np.array([size_hw[1], size_hw[0]])
        if (np.abs(np.array([cx, cy]) - sides / 2) > (0.5 + FARTHEST_CENTRE) * sides).any():
            return "centre", f"the principal point ({cx:g}, {cy:g}), far outside of {sides[0]}x{sides[1]} pixels"
    return None


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


def level_axes(up: np.ndarray) -> np.ndarray:
    """`(4, 4)` rotation from a camera's optical axes to level ones of the same heading, y down.

    Args:
        up: `(3,)` in the camera's axes, of any length but 0. A camera that looks straight down or up is headed where
            the top or the bottom of its image is.
    """
    down = -up / np.linalg.norm(up)
    ahead = np.array([0.0, 0.0, 1.0])
    if abs(down[2]) > STRAIGHT:
        ahead = np.array([0.0, -np.sign(down[2]), 0.0])
    forward = ahead - (ahead @ down) * down
    forward /= np.linalg.norm(forward)
    result = np.eye(4)
    result[:3, :3] = np.cross(down, forward), down, forward
    return result
