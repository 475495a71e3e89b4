# SPDX-License-Identifier: Apache-2.0
"""From z-depth to points."""

import numpy as np

from da3_core.geometry.cameras import invert_rigid


def backproject(depth: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray | None = None) -> np.ndarray:
    """The 3-D point of every pixel centre.

    Args:
        depth: `(N, H, W)` z-depth.
        intrinsics: `(N, 3, 3)` pixels of the depth map, pixel edges at integers: pixel `u` is centred at `u + 0.5`.
        extrinsics: `(N, 4, 4)` or `(N, 3, 4)` rigid world-to-camera, or None for points in camera axes.

    Returns:
        `(N, H, W, 3)` float32 in the unit of the depth; not finite where the depth is not.
    """
    height, width = depth.shape[1:]
    rays = np.linalg.inv(np.asarray(intrinsics, np.float64))
    centres = np.zeros((len(rays), 3))
    if extrinsics is not None:
        camera_to_world = invert_rigid(np.asarray(extrinsics, np.float64))
        rays = camera_to_world[:, :3, :3] @ rays
        centres = camera_to_world[:, :3, 3]
    u = np.arange(width)[:, None] + 0.5
    v = np.arange(height)[:, None] + 0.5

    points = np.empty((*depth.shape, 3), np.float32)
    for view, (z, ray, centre) in enumerate(zip(depth, rays, centres, strict=True)):
        across = (u * ray[:, 0]).astype(np.float32)  # (W, 3)
        down = (v * ray[:, 1] + ray[:, 2]).astype(np.float32)  # (H, 3)
        np.add(across[None], down[:, None], out=points[view])
        points[view] *= z[:, :, None]
        points[view] += centre.astype(np.float32)
    return points
