# SPDX-License-Identifier: Apache-2.0
"""Unit quaternions x y z w: from and to rotation matrices, and on the way from one to another."""

import numpy as np


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """`(..., 3, 3)` rotations to `(..., 4)` float64 unit quaternions x y z w with w >= 0.

    The largest of the four components is computed first and divides the others, which is stable for every rotation.
    """
    m = np.asarray(rotation, np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    yz, zx, xy = m[..., 1, 2] + m[..., 2, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    # Row i holds the quaternion times four times its i-th component.
    candidates = np.stack(
        [
            np.stack([1 + xx - yy - zz, xy, zx, wx], -1),
            np.stack([xy, 1 - xx + yy - zz, yz, wy], -1),
            np.stack([zx, yz, 1 - xx - yy + zz, wz], -1),
            np.stack([wx, wy, wz, 1 + xx + yy + zz], -1),
        ],
        -2,
    )
    largest = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), -1)
    quaternion: np.ndarray = np.take_along_axis(candidates, largest[..., None, None], -2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.asarray(np.where(quaternion[..., 3:] < 0, -quaternion, quaternion))


def rotation_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """`(..., 4)` quaternions x y z w, of any length but 0, to `(..., 3, 3)` float64 rotations."""
    q = np.asarray(quaternion, np.float64)
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def slerp(start: np.ndarray, end: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """`(..., 4)` quaternions on the shorter great circle from `start` (share 0) to `end` (share 1), both `(4,)`, for
    shares `(...)` (K. Shoemake, Animating Rotation with Quaternion Curves, 1985)."""
    cosine = float(start @ end)
    if cosine < 0:
        end, cosine = -end, -cosine
    share = np.asarray(share)[..., None]
    if cosine > 1 - 1e-9:  # the sine below vanishes and the chord is the arc
        mixed = start + share * (end - start)
        return np.asarray(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))
    angle = np.arccos(cosine)
    return np.asarray((np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle))
