# SPDX-License-Identifier: Apache-2.0
"""All cameras of a window and one depth scale per view, adjusted together to what the matches between views say.

A match carries a pixel of view `i` by its depth into view `j`. Its error there has three parts: two of pixels, and one
of depth, the logarithm of the depth it arrives with over the depth that view `j` has. Features are located to about a
pixel, but predicted depth may be wrong by a tenth and more, and that moves the carried pixel along its epipolar line.
So every error is weighed by its covariance, `pixel noise + depth noise * what depth does to the error`: where depth is
good it places the cameras, where it is bad the epipolar geometry does, and without parallax the rotation still stands.

How good depth is, the depth of another view does not tell: a network errs alike in both. The matches themselves do,
where the camera moved: they are triangulated, and the two depths compared. Where it did not, depth counts as soft.

Levenberg-Marquardt on the normal equations, in which each pair of views fills four blocks of 7 x 7 (three of rotation,
three of translation, one of scale), with Cauchy's weight against wrong matches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3_core.geometry.quaternions import rotation_from_quaternion

LEAST_PIXEL_NOISE = 0.5  # standard deviation of a feature's place, pixels of the image that was searched
LARGEST_PIXEL_NOISE = 0.005  # of the focal length: cameras are not quite pinholes, nor their focal lengths known
DEPTH_WITNESSES = 2  # depth errs in patches, so more matches than this testify to pixels, but not to depth, any better
DEPTH_NOISE_RANGE = (0.01, 0.3)  # of a depth relative to itself
SOFT_DEPTH_NOISE = 0.2  # the same where nothing tells it
TRIANGULATED_TO = 0.15  # relative deviation of a triangulated depth that tells how good the predicted one is
MIN_TRIANGULATED = 20
MOST_ALONG = 1.5  # by which a depth may be wrong, of its logarithm
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
        pixel_size: of the image of the target view that was searched, in the pixels of the others.
    """

    source: int
    target: int
    points: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    pixel_size: float = 1.0

    def __getitem__(self, chosen: np.ndarray) -> DirectedMatches:
        kept = self.points[chosen], self.pixels[chosen], self.depth[chosen]
        return DirectedMatches(self.source, self.target, *kept, self.intrinsics, self.pixel_size)


@dataclass(frozen=True)
class Noise:
    """Standard deviations: of the place of a feature, pixels, and of a depth relative to itself."""

    pixel: float
    depth: float


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


def refine(cameras: Cameras, pairs: Sequence[DirectedMatches], noise: Noise) -> Cameras:
    """The cameras that the matches agree on best; those of view 0 and its scale stay."""
    shared = _shared(noise, pairs)
    damping = 1e-4
    for _ in range(MAX_STEPS):
        nearest = [_to_nearest(cameras, matches, noise) for matches in pairs]
        hessian, gradient, information, cost = _linearised(cameras, nearest, shared)
        while damping < 1e8:
            damped = hessian + damping * np.diag(np.diag(hessian) + 1e-12)
            step = np.zeros(gradient.shape)
            step[_PER_VIEW:] = -np.linalg.solve(damped[_PER_VIEW:, _PER_VIEW:], gradient[_PER_VIEW:])
            candidate = cameras.moved(step.reshape(-1, _PER_VIEW))
            new_cost = sum(
                _cost(_squared(carry(candidate, one.matches).errors - one.shift, known))
                for one, known in zip(nearest, information, strict=True)
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


def rotation_deviation(cameras: Cameras, pairs: Sequence[DirectedMatches], noise: Noise) -> np.ndarray:
    """`(N,)` standard deviation of each camera's rotation about its worst axis, against view 0, in radians."""
    shared = _shared(noise, pairs)
    nearest = [_to_nearest(cameras, matches, noise) for matches in pairs]
    hessian = _linearised(cameras, nearest, shared)[0][_PER_VIEW:, _PER_VIEW:]
    covariance = np.linalg.pinv(hessian, hermitian=True)
    starts = range(0, len(covariance), _PER_VIEW)
    variances = [np.linalg.eigvalsh(covariance[start : start + 3, start : start + 3])[-1] for start in starts]
    return np.sqrt([0.0, *variances])


def worst_noise(pairs: Sequence[DirectedMatches]) -> Noise:
    """As bad as it may be for matches to count."""
    pixel = max(max(LARGEST_PIXEL_NOISE * one.intrinsics[0, 0], LEAST_PIXEL_NOISE * one.pixel_size) for one in pairs)
    return Noise(float(pixel), DEPTH_NOISE_RANGE[1])


def estimate_noise(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> Noise:
    """How well the matches that fit at all lie on their epipolar lines, and how well depth fits what they triangulate.

    Where too few can be triangulated, depth is soft, or worse where that of the views differs by more.
    """
    worst = worst_noise(pairs)
    chosen = [matches[squared_errors(cameras, matches, worst) <= LARGEST_SQUARED_ERROR] for matches in pairs]
    least = LEAST_PIXEL_NOISE * max(one.pixel_size for one in pairs)
    pixel = float(np.clip(spread_across_lines(cameras, chosen), least, worst.pixel))
    found = [triangulate(cameras, matches, pixel) for matches in chosen]
    log_ratios, deviations = (np.concatenate([one[part] for one in found]) for part in (0, 1))
    tells = deviations <= TRIANGULATED_TO
    if tells.sum() >= MIN_TRIANGULATED:
        squared = _spread(log_ratios[tells]) ** 2 - float(np.median(deviations[tells])) ** 2
        return Noise(pixel, float(np.clip(np.sqrt(max(squared, 0)), *DEPTH_NOISE_RANGE)))
    differences = np.concatenate([carry(cameras, matches).errors[:, 2] for matches in chosen])
    return Noise(pixel, float(np.clip(_spread(differences) / np.sqrt(2), SOFT_DEPTH_NOISE, DEPTH_NOISE_RANGE[1])))


def spread_across_lines(cameras: Cameras, pairs: Sequence[DirectedMatches]) -> float:
    """Standard deviation in pixels of features about their epipolar lines; every match is there both ways, so the
    errors of two lines tell of the noise of one feature."""
    errors = [_across_lines(carry(cameras, matches)) for matches in pairs]
    return float(np.sqrt(2)) * _spread(np.concatenate(errors))


def triangulate(cameras: Cameras, matches: DirectedMatches, pixel_noise: float) -> tuple[np.ndarray, np.ndarray]:
    """`(M,)` logarithms of the depth in the source view that two rays meet at over the depth that it has, and their
    standard deviations, infinite where the rays do not meet in front of both cameras."""
    carried = carry(cameras, matches)
    moved = cameras.world_to_camera[matches.target, :3, 3] - (
        carried.rotation @ cameras.world_to_camera[matches.source, :3, 3]
    )
    rays = np.insert(matches.pixels, 2, 1, axis=1) @ np.linalg.inv(matches.intrinsics).T
    turned, shifted = np.cross(rays, carried.offsets), np.cross(rays, moved)
    factor = -(turned * shifted).sum(1) / np.maximum((turned**2).sum(1), 1e-300)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        offsets = factor[:, None] * carried.offsets
        points = offsets + moved
        along = (
            matches.intrinsics[:2, :2] @ (offsets[:, :2] - points[:, :2] / points[:, 2:] * offsets[:, 2:])[:, :, None]
        )
        per_log_depth = np.linalg.norm(along[:, :, 0] / points[:, 2:], axis=1)
        log_ratio, deviation = np.log(factor), pixel_noise / per_log_depth
    valid = (factor > 0) & (points[:, 2] > 0) & np.isfinite(deviation)
    return np.where(valid, log_ratio, 0), np.where(valid, deviation, np.inf)


def _spread(values: np.ndarray) -> float:
    """Standard deviation about 0 that most values speak for."""
    return 1.4826 * float(np.median(np.abs(values))) if len(values) else 0.0


def _across_lines(carried: Carried) -> np.ndarray:
    """`(M,)` pixels of the errors across the epipolar lines, where depth does nothing to them."""
    along = (carried.slopes @ carried.offsets[:, :, None])[:, :2, 0]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    return np.asarray((across * carried.errors[:, :2]).sum(1))


def _shared(noise: Noise, pairs: Sequence[DirectedMatches]) -> list[Noise]:
    """Of every pair, what all matches that start from the depth of a view have in common, as noise of the single."""
    started = Counter(matches.source for matches in pairs for _ in matches.depth)
    many = [started[matches.source] / DEPTH_WITNESSES for matches in pairs]
    return [Noise(noise.pixel, noise.depth * max(1.0, float(np.sqrt(count)))) for count in many]


def squared_errors(cameras: Cameras, matches: DirectedMatches, noise: Noise) -> np.ndarray:
    """`(M,)` squared errors in standard deviations; infinite for what the target cannot see so."""
    carried = carry(cameras, matches)
    return np.where(carried.possible, _squared(carried.errors, _information(carried, noise)), np.inf)


def median_parallax(cameras: Cameras, matches: DirectedMatches) -> float:
    """Pixels by which the median point moves in the target view because the camera moved, and did not only turn."""
    carried = carry(cameras, matches)
    nearest = NEAREST * np.linalg.norm(carried.offsets, axis=1, keepdims=True)
    turned = carried.offsets / np.maximum(carried.offsets[:, 2:], nearest)
    shift = (carried.points / carried.points[:, 2:] - turned) @ matches.intrinsics[:2].T
    return float(np.median(np.linalg.norm(shift, axis=1)))


def _information(carried: Carried, noise: Noise) -> np.ndarray:
    """`(M, 3, 3)` inverse covariance of the errors: noise of pixels and of both depths."""
    by_log_depth = (carried.slopes @ carried.offsets[:, :, None])[:, :, 0]
    precision = 1 / np.array([noise.pixel, noise.pixel, noise.depth]) ** 2
    # The covariance is diagonal but for one direction, so its inverse is too (Sherman and Morrison).
    pulled = precision * by_log_depth
    share = 1 / (1 / noise.depth**2 + (pulled * by_log_depth).sum(1))
    return np.asarray(np.diag(precision) - share[:, None, None] * pulled[:, :, None] * pulled[:, None, :])


def _squared(errors: np.ndarray, information: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("mi,mij,mj->m", errors, information, errors))


def _cost(squared: np.ndarray) -> float:
    return float(ROBUST_WIDTH**2 * np.log1p(squared / ROBUST_WIDTH**2).sum())


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Matches whose points went along their rays to where they fit best, and `shift` `(M, 3)`, by how much that changed
    the errors: depth may be wrong by so much that its effect is far from linear."""

    matches: DirectedMatches
    shift: np.ndarray


def _to_nearest(cameras: Cameras, matches: DirectedMatches, noise: Noise) -> _Nearest:
    log_ratio, deviation = triangulate(cameras, matches, noise.pixel)
    with np.errstate(over="ignore"):
        share = noise.depth**2 / (noise.depth**2 + deviation**2)
    along = np.clip(share * log_ratio, -MOST_ALONG, MOST_ALONG)
    moved = replace(matches, points=matches.points * np.exp(along)[:, None])
    carried = carry(cameras, moved)
    return _Nearest(moved, (carried.slopes @ carried.offsets[:, :, None])[:, :, 0] * along[:, None])


def _linearised(
    cameras: Cameras, pairs: Sequence[_Nearest], noises: Sequence[Noise]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], float]:
    """Normal equations `(7 N, 7 N)` and `(7 N,)`, the information of every match, and the cost under it."""
    size = _PER_VIEW * len(cameras.log_scale)
    hessian, gradient, cost, kept = np.zeros((size, size)), np.zeros(size), 0.0, []
    for one, noise in zip(pairs, noises, strict=True):
        matches, carried = one.matches, carry(cameras, one.matches)
        errors = carried.errors - one.shift  # (M, 3)
        information = _information(carried, noise)  # (M, 3, 3)
        squared = _squared(errors, information)  # (M,)
        weighted = information / (1 + squared / ROBUST_WIDTH**2)[:, None, None]  # (M, 3, 3)
        slopes = _slopes(carried)  # (M, 3, 14)
        columns = np.concatenate([_PER_VIEW * view + np.arange(_PER_VIEW) for view in (matches.source, matches.target)])
        # (3 M, 14)
        flat, weighted_flat = slopes.reshape(-1, 2 * _PER_VIEW), (weighted @ slopes).reshape(-1, 2 * _PER_VIEW)
        hessian[np.ix_(columns, columns)] += weighted_flat.T @ flat  # (14, 14)
        gradient[columns] += weighted_flat.T @ errors.ravel()  # (14,)
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
