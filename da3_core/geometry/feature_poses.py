# SPDX-License-Identifier: Apache-2.0
"""Camera poses of a window of views from matching features and each view's depth, for models that know no cameras.

Every pair of views gives a relative pose by PnP with RANSAC: points of one view, found again in the other. The best
pairs place view after view, and a joint refinement makes all matches agree. Depth may be off by a factor of its own in
every view; that factor is found too. Views that cannot be placed reliably are reported, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.depth_correction import fit_correction
from da3_core.geometry.matching import Features, choose_pairs, detect_features, match_features
from da3_core.geometry.pose_refinement import (
    LARGEST_SQUARED_ERROR,
    Cameras,
    DirectedMatches,
    Noise,
    carry,
    estimate_noise,
    median_parallax,
    refine,
    rotation_deviation,
    spread_across_lines,
    squared_errors,
    triangulate,
    worst_noise,
)
from da3_core.geometry.relative_pose import solve_epipolar, solve_pnp

DEFAULT_FIELD_OF_VIEW_DEG = 60.0  # over the longer side, where no intrinsics are known
MIN_INLIERS = 20
MIN_INLIER_SHARE = 0.4  # of the matches of a pair, and of all those of a view
MIN_INLIER_SHARE_OF_MANY = 0.2  # beyond `MIN_INLIERS`: so many never agree by chance
MAX_ROTATION_DEVIATION_DEG = 2.0
MAX_SPREAD = 1.75  # of features about their epipolar lines, of the worst noise; chance would spread them by 3.5
REFINEMENTS = 2  # once the matches that agree at all are known, and how well they do
DEPTH_TOLD_TO = 0.3  # relative deviation of a triangulated depth that corrects the one there is
LEAST_PARALLAX = 8  # times the noise of pixels; with less, errors of the poses are errors of all triangulated depths
MAX_DEPTH_JUMP = 0.1  # between the four pixels around a feature; beyond it, depth there is that of neither surface


@dataclass(frozen=True, eq=False)
class FeaturePoses:
    """What matching found about the cameras of `N` views.

    Attributes:
        world_to_camera: `(N, 4, 4)` float64; the world of a segment is the optical frame of its first view. NaN for
            views that could not be placed; None where no view could.
        depth_scales: `(N,)` float64, factors that bring the depth of every view to the unit of its segment; their
            geometric mean is 1 in every segment, and they are 1 for other views. None where no view could be placed.
        inliers: `(N,)` int64, matches of each view with others that support the result.
        segments: `(N,)` int64, which views share a world, the largest segment being 0; -1 for views without a pose.
        rotation_deviation_deg: standard deviation of the least certain rotation, if the intrinsics are right. This and
            the following are those of the largest segment; NaN on failure.
        residual_px: median reprojection error of these matches; NaN on failure.
        parallax_px: how far such a match moves because the camera moved and did not only turn, median over the pair
            of views with most of it; below about 1 the cameras stood still and directions of motion mean nothing.
            NaN on failure.
        depth_noise: relative standard deviation of the depths, about what the matches triangulate where the cameras
            moved; NaN on failure.
        failure: why views have no pose, or no common world, in one sentence; None on success.
        depth_factors: `(N, H, W)` what the matches correct depth by beyond its scale, pixel by pixel, where that was
            asked for; None otherwise, or where no view could be placed.
    """

    world_to_camera: np.ndarray | None
    depth_scales: np.ndarray | None
    inliers: np.ndarray
    segments: np.ndarray
    rotation_deviation_deg: float = float("nan")
    residual_px: float = float("nan")
    parallax_px: float = float("nan")
    depth_noise: float = float("nan")
    failure: str | None = None
    depth_factors: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Pair:
    """All matches of two views both ways, and their relative pose as RANSAC found it.

    `second_from_first` `(4, 4)` is in the depth unit of the first view, `second_scale` that unit per unit of the
    second, `inliers` counts the matches of both directions that agree.
    """

    forward: DirectedMatches
    backward: DirectedMatches
    second_from_first: np.ndarray
    second_scale: float
    inliers: int


def default_intrinsics(height: int, width: int) -> np.ndarray:
    """`(3, 3)` of a centred camera of `DEFAULT_FIELD_OF_VIEW_DEG`, pixel edges at integers."""
    focal = max(height, width) / 2 / np.tan(np.deg2rad(DEFAULT_FIELD_OF_VIEW_DEG) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def poses_from_features(
    images: Iterable[np.ndarray],
    depth: np.ndarray,
    intrinsics: np.ndarray,
    depth_from_images: np.ndarray | None = None,
    *,
    correct_depth: bool = False,
) -> FeaturePoses:
    """The cameras of `N >= 2` views of one scene. Deterministic; never raises for what the images show.

    Args:
        images: `N` of `(H', W', 3)` uint8 RGB, taken one after the other. The larger they are, the more they tell.
        depth: `(N, H, W)` z-depth up to one factor per view; pixels that are not finite and positive are ignored.
        intrinsics: `(N, 3, 3)` pixels of `depth`, pixel edges at integers.
        depth_from_images: `(N, 3, 3)` takes pixels of the images to those of `depth`; by default they are the same.
        correct_depth: tell `depth_factors` too.
    """
    transforms = np.tile(np.eye(3), (len(depth), 1, 1)) if depth_from_images is None else depth_from_images
    given = zip(images, depth, intrinsics.astype(np.float64), transforms, strict=True)
    views = [_View.of(*view) for view in given]
    related = [_relate(i, j, views) for i, j in choose_pairs(len(views))]
    pairs = [pair for pair in related if isinstance(pair, _Pair)]
    doubts = [pair for pair in related if isinstance(pair, _Doubt)]
    waiting, solved = _groups(range(len(views)), pairs), list[_Segment]()
    while waiting:
        members = waiting.pop()
        found = _solve(members, pairs)
        if isinstance(found, _Segment):
            solved.append(found)
        else:  # without it the others may agree
            doubts.append(found)
            waiting += _groups([view for view in members if view not in found.views], pairs)
    solved.sort(key=lambda segment: (-len(segment.members), segment.members))
    together = _together(solved, len(views), doubts)
    if not correct_depth or not solved:
        return together
    return replace(together, depth_factors=_depth_factors(solved, depth, intrinsics))


def _depth_factors(segments: Sequence[_Segment], depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """`(N, H, W)`, ones for views that have no pose, or hardly moved."""
    factors = np.ones_like(depth)
    for segment in segments:
        if segment.parallax_px < LEAST_PARALLAX * segment.noise.pixel:
            continue
        for number, view in enumerate(segment.members):
            own = [matches for matches in segment.agreeing if matches.source == number]
            points = np.concatenate([matches.points for matches in own])
            told = [triangulate(segment.cameras, matches, segment.noise.pixel) for matches in own]
            log_ratios, deviations = (np.concatenate([one[part] for one in told]) for part in (0, 1))
            sure = deviations <= DEPTH_TOLD_TO
            pixels = (points[sure] / points[sure, 2:]) @ intrinsics[view, :2].T
            factors[view] = fit_correction(pixels, log_ratios[sure], deviations[sure], depth[view])
    return factors


@dataclass(frozen=True, eq=False)
class _Segment:
    """Views `members` that share a world, their cameras in that order, and how well these agree; see `FeaturePoses`."""

    members: Sequence[int]
    cameras: Cameras
    inliers: np.ndarray
    rotation_deviation_deg: float
    residual_px: float
    parallax_px: float
    noise: Noise
    agreeing: Sequence[DirectedMatches]


@dataclass(frozen=True)
class _Doubt:
    """Views that cannot be placed together, or one that agrees least with its group, and the test that said so.

    Of `tried` matches `agreeing` have one motion of the camera; or these leave a rotation uncertain by `deviation_deg`,
    or are `spread_px` off their epipolar lines, of which `most_px` are allowed.
    """

    views: tuple[int, ...]
    agreeing: int
    tried: int
    deviation_deg: float = 0.0
    spread_px: float = 0.0
    most_px: float = 0.0

    @property
    def reason(self) -> str | None:
        """A sentence where the matches are enough, but not good enough."""
        if self.deviation_deg:
            return (
                f"the matches of view {self.views[0]} leave its rotation uncertain by {self.deviation_deg:.1f} degrees "
                f"({MAX_ROTATION_DEVIATION_DEG:.0f} are allowed); give views that overlap more"
            )
        if self.spread_px:
            return (
                f"the matches of view {self.views[0]} with the others are {self.spread_px:.1f} pixels off their "
                f"epipolar lines ({self.most_px:.1f} are allowed), as by chance; give views that overlap more"
            )
        return None

    @property
    def support(self) -> float:
        """Of what is enough."""
        return self.agreeing / _enough(self.tried)


def _groups(views: Iterable[int], pairs: Sequence[_Pair]) -> list[list[int]]:
    """The views that pairs connect, two or more each time."""
    left, groups = set(views), []
    while left:
        group: set[int] = set()
        reached = {min(left)}
        while reached:
            group |= reached
            ends = [(pair.forward.source, pair.forward.target) for pair in pairs]
            reached = {b for a, b in (*ends, *(end[::-1] for end in ends)) if a in reached} & (left - group)
        left -= group
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def _enough(tried: int) -> float:
    """How many of so many matches must agree."""
    of_many = MIN_INLIERS + MIN_INLIER_SHARE_OF_MANY * tried
    return max(MIN_INLIERS, min(MIN_INLIER_SHARE * tried, of_many))


def _together(segments: Sequence[_Segment], views: int, doubts: Sequence[_Doubt]) -> FeaturePoses:
    """The result of all views, by segments from the largest to the smallest."""
    numbers, inliers = np.full(views, -1), np.zeros(views, np.int64)
    world_to_camera, depth_scales = np.full((views, 4, 4), np.nan), np.ones(views)
    for number, segment in enumerate(segments):
        members = list(segment.members)
        unit = float(np.exp(-segment.cameras.log_scale.mean()))
        numbers[members], inliers[members] = number, segment.inliers
        first_to_world = invert_rigid(segment.cameras.world_to_camera[0])
        world_to_camera[members] = [
            _in_units(camera @ first_to_world, unit) for camera in segment.cameras.world_to_camera
        ]
        depth_scales[members] = unit * np.exp(segment.cameras.log_scale)
    apart = np.flatnonzero(numbers != 0).tolist()
    failure = _failure(apart, views, doubts) if apart else None
    if not segments:
        return FeaturePoses(None, None, inliers, numbers, failure=failure)
    largest = segments[0]
    return FeaturePoses(
        world_to_camera,
        depth_scales,
        inliers,
        numbers,
        rotation_deviation_deg=largest.rotation_deviation_deg,
        residual_px=largest.residual_px,
        parallax_px=largest.parallax_px,
        depth_noise=largest.noise.depth,
        failure=failure,
    )


@dataclass(frozen=True, eq=False)
class _View:
    """Features of a view that have a depth `(K,)`, and their `points` `(K, 3)` in camera axes."""

    features: Features
    depth: np.ndarray
    points: np.ndarray
    intrinsics: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, depth_from_image: np.ndarray) -> _View:
        features = detect_features(image, depth_from_image)
        at_features = _interpolate(depth, features.pixels)
        known = np.isfinite(at_features)
        features, at_features = features[known], at_features[known]
        rays = np.insert(features.pixels, 2, 1, axis=1) @ np.linalg.inv(intrinsics).T
        points = rays * at_features[:, None]
        return cls(features, at_features, points, intrinsics)


def _interpolate(depth: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """`(K,)` depth between the four pixel centres around each of `pixels`; NaN where these differ much or hold none,
    and outside."""
    height, width = depth.shape
    inside = ((pixels >= 0) & (pixels <= (width, height))).all(axis=1)
    x = np.clip(pixels[:, 0] - 0.5, 0, width - 1.001)
    y = np.clip(pixels[:, 1] - 0.5, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    corners = np.stack([depth[row + down, column + across] for down in (0, 1) for across in (0, 1)]).astype(np.float64)
    right, below = x - column, y - row
    shares = np.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right])
    with np.errstate(invalid="ignore"):
        smooth = inside & (corners.min(0) > 0) & (corners.max(0) <= (1 + MAX_DEPTH_JUMP) * corners.min(0))
    return np.where(smooth, (shares * corners).sum(0), np.nan)


def _relate(i: int, j: int, views: Sequence[_View]) -> _Pair | _Doubt:
    """The relative pose of two views that most matches support.

    PnP is right where depth is good or the camera only turned, the essential matrix where it moved; both are tried.
    """
    first, second = views[i], views[j]
    at_first, at_second = match_features(first.features, second.features)
    if len(at_first) < MIN_INLIERS:
        return _Doubt((i, j), len(at_first), len(at_first))
    forward = _directed(0, 1, first, second, at_first, at_second)
    backward = _directed(1, 0, second, first, at_second, at_first)
    candidates = [*solve_pnp(forward), *solve_pnp(backward), *solve_epipolar(forward, first.intrinsics)]
    supports = [_support(cameras, (forward, backward)) for cameras in candidates]
    inliers = max(supports, default=0)
    if inliers < 2 * _enough(len(at_first)):
        return _Doubt((i, j), inliers // 2, len(at_first))
    best = candidates[supports.index(inliers)]
    unit, second_scale = np.exp(best.log_scale[0]), float(np.exp(best.log_scale[1] - best.log_scale[0]))
    second_from_first = best.world_to_camera[1] @ invert_rigid(best.world_to_camera[0])
    return _Pair(
        replace(forward, source=i, target=j),
        replace(backward, source=j, target=i),
        _in_units(second_from_first, 1 / unit),
        second_scale,
        inliers,
    )


def _directed(
    source: int, target: int, source_view: _View, target_view: _View, at_source: np.ndarray, at_target: np.ndarray
) -> DirectedMatches:
    return DirectedMatches(
        source,
        target,
        source_view.points[at_source],
        target_view.features.pixels[at_target],
        target_view.depth[at_target],
        target_view.intrinsics,
        target_view.features.pixel_size,
    )


def _support(cameras: Cameras, directed: Sequence[DirectedMatches]) -> int:
    """How many matches agree, if all were as bad as it may be."""
    return sum(len(matches.depth) for matches in _agreeing(cameras, directed, worst_noise(directed)))


def _solve(members: Sequence[int], pairs: Sequence[_Pair]) -> _Segment | _Doubt:
    """The cameras of connected views, refined together, if every view agrees with them by enough matches."""
    own = _among(members, pairs)
    directed = [matches for pair in own for matches in (pair.forward, pair.backward)]
    noise = worst_noise(directed)
    cameras = refine(_place(len(members), own), directed, noise)
    for _ in range(REFINEMENTS):
        agreeing = _agreeing(cameras, directed, noise)
        if _count(len(members), agreeing).min() < MIN_INLIERS:
            break
        noise = estimate_noise(cameras, agreeing)
        cameras = refine(cameras, agreeing, noise)
    return _judged(members, cameras, directed)


def _among(members: Sequence[int], pairs: Sequence[_Pair]) -> list[_Pair]:
    """The pairs of these views, which are counted from 0."""
    number = {view: i for i, view in enumerate(members)}

    def renumbered(matches: DirectedMatches) -> DirectedMatches:
        return replace(matches, source=number[matches.source], target=number[matches.target])

    return [
        replace(pair, forward=renumbered(pair.forward), backward=renumbered(pair.backward))
        for pair in pairs
        if pair.forward.source in number and pair.forward.target in number
    ]


def _place(views: int, pairs: Sequence[_Pair]) -> Cameras:
    """Cameras of connected views by the best supported pairs, one view after the other from view 0."""
    world_to_camera, scale, placed = np.tile(np.eye(4), (views, 1, 1)), np.ones(views), {0}
    while len(placed) < views:
        leading = [pair for pair in pairs if (pair.forward.source in placed) != (pair.forward.target in placed)]
        pair = max(leading, key=lambda pair: pair.inliers)
        first, second = pair.forward.source, pair.forward.target
        if first in placed:
            scale[second] = scale[first] * pair.second_scale
            world_to_camera[second] = _in_units(pair.second_from_first, scale[first]) @ world_to_camera[first]
        else:
            scale[first] = scale[second] / pair.second_scale
            first_from_second = invert_rigid(_in_units(pair.second_from_first, scale[first]))
            world_to_camera[first] = first_from_second @ world_to_camera[second]
        placed |= {first, second}
    return Cameras(world_to_camera, np.log(scale))


def _in_units(transform: np.ndarray, scale: float) -> np.ndarray:
    scaled = transform.copy()
    scaled[:3, 3] *= scale
    return scaled


def _agreeing(cameras: Cameras, directed: Sequence[DirectedMatches], noise: Noise) -> list[DirectedMatches]:
    """Of all matches those that fit the cameras."""
    return [matches[squared_errors(cameras, matches, noise) <= LARGEST_SQUARED_ERROR] for matches in directed]


def _judged(members: Sequence[int], cameras: Cameras, directed: Sequence[DirectedMatches]) -> _Segment | _Doubt:
    """The result, if the matches that agree with it are many enough in every view."""
    noise, views = estimate_noise(cameras, directed), len(members)
    agreeing = _agreeing(cameras, directed, noise)
    inliers, tried = _count(views, agreeing), _count(views, directed)
    doubts = [_Doubt((view,), int(inliers[i]), int(tried[i])) for i, view in enumerate(members)]
    least = min(doubts, key=lambda doubt: doubt.support)
    if least.support < 1:
        return least
    spread_px, most_px = spread_across_lines(cameras, agreeing), MAX_SPREAD * worst_noise(agreeing).pixel
    if spread_px > most_px:
        return replace(least, spread_px=spread_px, most_px=most_px)
    deviation_deg = np.rad2deg(rotation_deviation(cameras, agreeing, noise))
    worst = int(deviation_deg.argmax())
    if deviation_deg[worst] > MAX_ROTATION_DEVIATION_DEG:
        return replace(doubts[worst], deviation_deg=float(deviation_deg[worst]))
    errors_px = [np.linalg.norm(carry(cameras, matches).errors[:, :2], axis=1) for matches in agreeing]
    return _Segment(
        members,
        cameras,
        inliers,
        rotation_deviation_deg=float(deviation_deg[worst]),
        residual_px=float(np.median(np.concatenate(errors_px))),
        parallax_px=max(median_parallax(cameras, matches) for matches in agreeing if len(matches.depth)),
        noise=noise,
        agreeing=agreeing,
    )


def _count(views: int, directed: Sequence[DirectedMatches]) -> np.ndarray:
    """`(N,)` matches that each view takes part in, as the target."""
    counts = np.zeros(views, np.int64)
    for matches in directed:
        counts[matches.target] += len(matches.depth)
    return counts


def _failure(unplaced: Sequence[int], views: int, doubts: Sequence[_Doubt]) -> str:
    """Which test the views failed, its value and its limit."""
    own = [doubt for doubt in doubts if set(doubt.views) & set(unplaced)]
    reason = next((doubt.reason for doubt in own if doubt.reason), None)
    if reason is not None:
        return reason
    if views == 2:
        which = "the two views share too few features"
    elif len(unplaced) == 1:
        which = f"view {unplaced[0]} of {views} shares too few features with the others"
    else:
        which = f"views {', '.join(map(str, unplaced))} of {views} share too few features with the others"
    return f"{which} ({_shortage(own)}); give views that overlap more and show more texture"


def _shortage(doubts: Sequence[_Doubt]) -> str:
    if not doubts:
        return f"at least {MIN_INLIERS} matches must agree"
    best = max(doubts, key=lambda doubt: doubt.support)
    at_best = "" if len(doubts) == 1 else "at best "
    if best.tried < MIN_INLIERS:
        return f"{at_best}{best.tried} features match, at least {MIN_INLIERS} must"
    needed = int(np.ceil(_enough(best.tried)))
    return f"{at_best}{best.agreeing} of {best.tried} matches agree on where the cameras are, at least {needed} must"
