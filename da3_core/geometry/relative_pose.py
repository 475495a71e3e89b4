# SPDX-License-Identifier: Apache-2.0
"""Hypotheses of the relative pose of two views, each from a few matches by RANSAC.

OpenCV's RANSAC draws from a generator with a fixed seed in every call, so the answers are the same every time.
"""

from __future__ import annotations

import numpy as np

from da3_core.geometry.pose_refinement import Cameras, DirectedMatches

PNP_THRESHOLD = 0.01  # of the focal length, about half a degree: depth is not exact
EPIPOLAR_THRESHOLD = 0.003  # the same
TRIALS = 500
CONFIDENCE = 0.999


def solve_pnp(matches: DirectedMatches) -> list[Cameras]:
    """Two cameras, or none, from points of the source view (0 or 1) and where they are seen in the other.

    P3P: X.-S. Gao et al. and later T. Ke and S. Roumeliotis, An Efficient Algebraic Solution to the
    Perspective-Three-Point Problem, CVPR 2017.
    """
    import cv2

    solved, rotation, translation, inliers = cv2.solvePnPRansac(
        matches.points,
        matches.pixels,
        matches.intrinsics,
        None,
        iterationsCount=TRIALS,
        reprojectionError=PNP_THRESHOLD * matches.intrinsics[0, 0],
        confidence=CONFIDENCE,
        flags=cv2.SOLVEPNP_AP3P,
    )
    if not solved or inliers is None:
        return []
    return _cameras(cv2.Rodrigues(rotation)[0], translation[:, 0], matches, inliers[:, 0])


def solve_epipolar(matches: DirectedMatches, source_intrinsics: np.ndarray) -> list[Cameras]:
    """Two cameras each for both rotations of the essential matrix, which needs no depth; depth gives the baseline.

    D. Nistér, An Efficient Solution to the Five-Point Relative Pose Problem, PAMI 2004.
    """
    import cv2

    source = matches.points[:, :2] / matches.points[:, 2:]
    rays = np.insert(matches.pixels, 2, 1, axis=1) @ np.linalg.inv(matches.intrinsics).T
    essential, inliers = cv2.findEssentialMat(
        source, rays[:, :2], np.eye(3), cv2.RANSAC, CONFIDENCE, EPIPOLAR_THRESHOLD, TRIALS
    )
    if essential is None or essential.shape != (3, 3):
        return []
    chosen = np.flatnonzero(inliers[:, 0])
    *rotations, direction = cv2.decomposeEssentialMat(essential)
    found = []
    for rotation in rotations:
        # Each match says how far to go for its point to be on its ray; the sign of the direction comes with it.
        off_ray = np.cross(rays[chosen], matches.points[chosen] @ rotation.T)
        by_step = np.cross(rays[chosen], direction[:, 0])
        steps = -(off_ray * by_step).sum(1) / np.maximum((by_step**2).sum(1), 1e-12)
        found += _cameras(rotation, float(np.median(steps)) * direction[:, 0], matches, chosen)
    return found


def _cameras(
    rotation: np.ndarray, translation: np.ndarray, matches: DirectedMatches, inliers: np.ndarray
) -> list[Cameras]:
    """The source camera as the world, with its depth unit, and the target camera, unless the points are behind it."""
    world_to_camera = np.tile(np.eye(4), (2, 1, 1))
    world_to_camera[matches.target, :3, :3] = rotation
    world_to_camera[matches.target, :3, 3] = translation
    z = matches.points[inliers] @ rotation[2] + translation[2]
    ratio = float(np.median(z / matches.depth[inliers]))
    if not ratio > 0:
        return []
    log_scale = np.zeros(2)
    log_scale[matches.target] = np.log(ratio)
    return [Cameras(world_to_camera, log_scale)]
