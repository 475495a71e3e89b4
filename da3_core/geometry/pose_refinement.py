# SPDX-License-Identifier: Apache-2.0
"""All cameras of a window and one depth scale per view, adjusted together to what the matches between views say.

A match carries a pixel of view `i` by its depth into view `j`. Its error there has three parts: two of pixels, and one
of depth, the logarithm of the depth it arrives with over the depth that view `j` has. Features are located to about a
pixel, but predicted depth may be wrong by a tenth and more, and that moves the carried pixel along its epipolar line.
So every error is weighed by its covariance, `pixel noise + depth noise * what depth does to the error`: where depth is
good it places the cameras, where it is bad the epipolar geometry does, and without parallax the rotation still stands.

Levenberg-Marquardt on the normal equations, in which each pair of views fills four blocks of 7 x 7 (three of rotation,
three of translation, one of scale), with Cauchy's weight against wrong matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from da3_core.geometry.quaternions import rotation_from_quaternion

PIXEL_NOISE = 1.0  # standard deviation of a feature's place, pixels
DEPTH_WITNESSES = 2  # depth errs in patches, so more matches than this testify to pixels, but not to depth, any better
DEPTH_NOISE_RANGE = (0.01, 0.3)  # of a depth relative to itself
ROBUST_WIDTH = 2.4  # errors of so many standard deviations and more count ever less
MAX_STEPS = 30
CONVERGED = 1e-5  # relative decrease of the cost
LARGEST_SQUARED_ERROR = 11.34  # 99 % of squared errors of three components are smaller, in standard deviations
MIN_VIEWING_COSINE = 0.5  # no feature looks the same from directions more than 60 degrees apart
NEAREST = 0.05  # least depth, of the distance from the source camera; nearer points, or points behind, match nothing

_PER_VIEW = 7


@dataclass(frozen=True, eq=False)
class DirectedMatches:
    """`M` matches that carry pixels of view `source` into view `target`.

    Attributes:
        points: `(M, 3)` in the axes and the depth unit of the source view.
        pixels: `(M, 2)` where they were found in the target view.
        depth: `(M,)` that the target view has there, in its own unit.
        intrinsics: `(3, 3)` of the target view.
    """

    source: int
    target: int
    points: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> DirectedMatches:
        kept = self.points[chosen], self.pixels[chosen], self.depth[chosen]
        return DirectedMatches(self.source, self.target, *kept, self.intrinsics)


@dataclass(frozen=True, eq=False)
class Cameras:
    """`world_to_camera` `(N, 4, 4)` and `log_scale` `(N,)`: world units per unit of depth of each view."""

    world_to_camera: np.ndarray
    log_scale: np.ndarray

    def moved(self, step: np.ndarray) -> Cameras:
        """By `step` `(N, 7)`: small rotation vector and translation in camera axes, then log scale."""
        turn = np.tile(np.eye(4), (len(step), 1, 1))
        turn[:, :3, :3] = rotation_from_quaternion(np.insert(step[:, :3] / 2, 3, 1, axis=1))
        turn[:, :3, 3] = step[:, 3:6]
        return Cameras(turn @ self.world_to_camera, self.log_scale + step[:, 6])


@dataclass(frozen=True, eq=False)
class Carried:
    """Points in the target view, and how far they are from what is there."""

    offsets: np.ndarray  # (M, 3) from the source camera, in target axes
    points: np.ndarray  # (M, 3) in target axes
    possible: np.ndarray  # (M,) bool: in front of the target camera, which sees the point from a similar direction
    rotation: np.ndarray  # (3, 3) target from source
    errors: np.ndarray  # (M, 3): two of pixels, log depth
    slopes: np.ndarray  # (M, 3, 3): errors by points


def carry(cameras: Cameras, matches: DirectedMatches) -> Carried:
    """The source view's points in the target view."""
    source, target = cameras.world_to_camera[matches.source], cameras.world_to_camera[matches.target]
    rotation = target[:3, :3] @ source[:3, :3].T
    offsets = np.exp(cameras.log_scale[matches.source]) * matches.points @ rotation.T
    points = offsets + target[:3, 3] - rotation @ source[:3, 3]
    distance = np.linalg.norm(offsets, axis=1)
    nearest = NEAREST * distance
    viewing_cosine = (offsets * points).sum(1) / (distance * np.linalg.norm(points, axis=1))
    possible = (points[:, 2] > nearest) & (viewing_cosine > MIN_VIEWING_COSINE)
    points[:, 2] = np.maximum(points[:, 2], nearest)

    homogeneous = points / points[:, 2:]
    projected = homogeneous @ matches.intrinsics[:2].T
    log_depth = np.log(points[:, 2] / matches.depth) - cameras.log_scale[matches.target]
    slopes = np.empty((len(points), 3, 3))
    slopes[:, :2] = matches.intrinsics[:2]
    slopes[:, :2, 2] -= projected
    slopes[:, 2] = 0, 0, 1
    slopes /= points[:, 2, None, None]
    errors = np.concatenate([projected - matches.pixels, log_depth[:, None]], 1)
    return Carried(offsets, points, possible, rotation, errors, slopes)


def refine(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> Cameras:
    """The cameras that the matches agree on best; those of view 0 and its scale stay."""
    depth_noise = _shared_depth_noise(cameras, pairs)
    damping = 1e-4
    for _ in range(MAX_STEPS):
        hessian, gradient, information, cost = _linearised(cameras, pairs, depth_noise)
        while damping < 1e8:
            damped = hessian + damping * np.diag(np.diag(hessian) + 1e-12)
            step = np.zeros(gradient.shape)
            step[_PER_VIEW:] = -np.linalg.solve(damped[_PER_VIEW:, _PER_VIEW:], gradient[_PER_VIEW:])
            candidate = cameras.moved(step.reshape(-1, _PER_VIEW))
            new_cost = sum(
                _cost(_squared(carry(candidate, matches).errors, known))
                for matches, known in zip(pairs, information, strict=True)
            )
            if new_cost < cost:
                break
            damping *= 10
        else:
            return cameras
        cameras, damping = candidate, max(damping / 10, 1e-9)
        if cost - new_cost < CONVERGED * cost:
            return cameras
    return cameras


def rotation_deviation(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> np.ndarray:
    """`(N,)` standard deviation of each camera's rotation about its worst axis, against view 0, in radians."""
    hessian = _linearised(cameras, pairs, _shared_depth_noise(cameras, pairs))[0][_PER_VIEW:, _PER_VIEW:]
    covariance = np.linalg.pinv(hessian, hermitian=True)
    starts = range(0, len(covariance), _PER_VIEW)
    variances = [np.linalg.eigvalsh(covariance[start : start + 3, start : start + 3])[-1] for start in starts]
    return np.sqrt([0.0, *variances])


def estimate_depth_noise(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> float:
    """Standard deviation of a depth relative to itself, from how well the depths of matching pixels agree."""
    differences = np.concatenate([carry(cameras, matches).errors[:, 2] for matches in pairs])
    spread = 1.4826 * float(np.median(np.abs(differences))) / np.sqrt(2)  # of two depths
    return float(np.clip(spread, *DEPTH_NOISE_RANGE))


def _shared_depth_noise(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> list[float]:
    """For each pair what its depths have in common, as noise of the single match."""
    noise = estimate_depth_noise(cameras, pairs)
    return [noise * max(1.0, float(np.sqrt(len(matches.depth) / DEPTH_WITNESSES))) for matches in pairs]


def squared_errors(cameras: Cameras, matches: DirectedMatches, depth_noise: float) -> np.ndarray:
    """`(M,)` squared errors in standard deviations; infinite for what the target cannot see so."""
    carried = carry(cameras, matches)
    return np.where(carried.possible, _squared(carried.errors, _information(carried, depth_noise)), np.inf)


def median_parallax(cameras: Cameras, matches: DirectedMatches) -> float:
    """Pixels by which the median point moves in the target view because the camera moved, and did not only turn."""
    carried = carry(cameras, matches)
    nearest = NEAREST * np.linalg.norm(carried.offsets, axis=1, keepdims=True)
    turned = carried.offsets / np.maximum(carried.offsets[:, 2:], nearest)
    shift = (carried.points / carried.points[:, 2:] - turned) @ matches.intrinsics[:2].T
    return float(np.median(np.linalg.norm(shift, axis=1)))


def _information(carried: Carried, depth_noise: float) -> np.ndarray:
    """`(M, 3, 3)` inverse covariance of the errors: noise of pixels and of both depths."""
    by_log_depth = (carried.slopes @ carried.offsets[:, :, None])[:, :, 0]
    precision = 1 / np.array([PIXEL_NOISE, PIXEL_NOISE, depth_noise]) ** 2
    # The covariance is diagonal but for one direction, so its inverse is too (Sherman and Morrison).
    pulled = precision * by_log_depth
    share = 1 / (1 / depth_noise**2 + (pulled * by_log_depth).sum(1))
    return np.asarray(np.diag(precision) - share[:, None, None] * pulled[:, :, None] * pulled[:, None, :])


def _squared(errors: np.ndarray, information: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("mi,mij,mj->m", errors, information, errors))


def _cost(squared: np.ndarray) -> float:
    return float(ROBUST_WIDTH**2 * np.log1p(squared / ROBUST_WIDTH**2).sum())


def _linearised(
    cameras: Cameras, pairs: Sequence[DirectedMatches], depth_noise: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], float]:
    """Normal equations `(7 N, 7 N)` and `(7 N,)`, the information of every match, and the cost under it."""
    size = _PER_VIEW * len(cameras.log_scale)
    hessian, gradient, cost, kept = np.zeros((size, size)), np.zeros(size), 0.0, []
    for matches, noise in zip(pairs, depth_noise, strict=True):
        carried = carry(cameras, matches)
        information = _information(carried, noise)  # (M, 3, 3)
        squared = _squared(carried.errors, information)  # (M,)
        weighted = information / (1 + squared / ROBUST_WIDTH**2)[:, None, None]  # (M, 3, 3)
        slopes = _slopes(carried)  # (M, 3, 14)
        columns = np.concatenate([_PER_VIEW * view + np.arange(_PER_VIEW) for view in (matches.source, matches.target)])
        # (3 M, 14)
        flat, weighted_flat = slopes.reshape(-1, 2 * _PER_VIEW), (weighted @ slopes).reshape(-1, 2 * _PER_VIEW)
        hessian[np.ix_(columns, columns)] += weighted_flat.T @ flat  # (14, 14)
        gradient[columns] += weighted_flat.T @ carried.errors.ravel()  # (14,)
        cost += _cost(squared)
        kept.append(information)
    return hessian, gradient, kept, cost


def _slopes(carried: Carried) -> np.ndarray:
    """`(M, 3, 14)` errors by the step of the source view and by that of the target view, see `Cameras.moved`."""
    by_source = np.empty((len(carried.points), 3, _PER_VIEW))
    by_source[:, :, :3] = carried.rotation @ _cross(carried.offsets @ carried.rotation)
    by_source[:, :, 3:6] = -carried.rotation
    by_source[:, :, 6] = carried.offsets
    by_target = np.zeros((len(carried.points), 3, _PER_VIEW))
    by_target[:, :, :3] = -_cross(carried.points)
    by_target[:, :, 3:6] = np.eye(3)
    slopes = carried.slopes @ np.concatenate([by_source, by_target], 2)
    slopes[:, 2, -1] = -1
    return np.asarray(slopes)


def _cross(vectors: np.ndarray) -> np.ndarray:
    """`(M, 3, 3)` matrices that multiply as `vectors` `(M, 3)` do in the cross product."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack([np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], -2)
