# SPDX-License-Identifier: Apache-2.0
"""Where a new window of views lies in the map: a robust Sim(3) from the views that both of them know.

Every inference has a world frame and a scale of its own, so nothing is expected of either: a fit is judged by how well
the shared views agree after it, never by how large its scale or its jump is.

What is fitted is the cameras of the shared views and the ratios of their depths, each weighed by its spread. The dense
points of a view move with its camera, so the same view in both worlds says nothing more about where the window lies:
points judge the fit, and take over where the cameras are wrong and the points are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from da3_core.geometry.pose_graph import Places, ScalePriors, Sightings, Spread, adjust, spreads_of
from da3_core.geometry.similarity import DegenerateError, Similarity, central_rotation, fit_similarity

MAX_POINTS = 2_500  # over all shared views: they judge, and more change little
ITERATIONS = 5
MIN_VALID_SHARE = 0.02  # of the sampled pixels: below it, the rest is sky or unknown
MAX_RESIDUAL = 0.1  # median, relative to depth
MAX_ROTATION_SPREAD = 0.1  # rad, between shared cameras
MAX_RATIO_SPREAD = 0.3  # median deviation of the logarithm of depth ratios
SETTLED = 0.1  # spreads of a shared view, which a fit need not move by any more
METRIC_DEVIATION = 1e-6  # of the logarithm of a scale that is known to be 1


@dataclass(frozen=True, eq=False)
class PosedDepth:
    """One view in the map or in a window's own world.

    Attributes:
        depth: `(H, W)` z-depth in the unit of the world; pixels that are not finite and positive are ignored.
        confidence: `(H, W)`, at least 1, or None.
        camera_to_world: `(4, 4)` float64 rigid, OpenCV axes.
        depth_scale: times `depth`, which then is in the unit of the world.
        sky: `(H, W)` bool, pixels to be ignored too, or None.
    """

    depth: np.ndarray
    confidence: np.ndarray | None
    camera_to_world: np.ndarray
    depth_scale: float = 1.0
    sky: np.ndarray | None = None

    def sampled_depth(self, grid: tuple[slice, slice]) -> np.ndarray:
        """`(h, w)` float64, NaN where it is to be ignored."""
        depth = self.depth[grid].astype(np.float64) * self.depth_scale
        valid = np.isfinite(depth) & (depth > 0)
        if self.sky is not None:
            valid &= ~self.sky[grid]
        return np.where(valid, depth, np.nan)


@dataclass(frozen=True, eq=False)
class WindowAlignment:
    """The result of `align_window`.

    Attributes:
        window_to_map: takes points of the window's world into the map.
        method: what the placement rests on. `points`: the shared views, whose dense points agree. `poses`: their
            cameras, the points disagree. `last_view`: nothing agreed; the newest shared camera is kept where it was,
            and the window is the start of a new map.
        residual: median distance between the points of the window and of the map, relative to their depth; NaN when
            no pixel is valid in both.
    """

    window_to_map: Similarity
    method: Literal["points", "poses", "last_view"]
    residual: float


@dataclass(frozen=True, eq=False)
class _Points:
    """Corresponding points `(M, 3)` float64 of the shared views, what is known about each, and how many were tried."""

    sampled: int
    view: np.ndarray
    window: np.ndarray
    map: np.ndarray
    map_depth: np.ndarray
    depth_ratio: np.ndarray  # map over window
    weight: np.ndarray

    @cached_property
    def scale(self) -> float:
        """Map units per window unit."""
        return _weighted_median(self.depth_ratio, self.weight)

    @cached_property
    def depth(self) -> np.ndarray:
        """`(M,)` in map units, the geometric mean of both sides, so that neither is preferred."""
        return self.map_depth * np.sqrt(self.scale / self.depth_ratio)

    @property
    def enough(self) -> bool:
        return len(self.weight) >= max(3, MIN_VALID_SHARE * self.sampled)

    def of_view(self, view: int) -> "_Points":
        """The points of one view alone, which becomes number 0."""
        chosen = self.view == view
        arrays = (self.window, self.map, self.map_depth, self.depth_ratio, self.weight)
        return _Points(self.sampled, np.zeros(int(chosen.sum()), np.int64), *(array[chosen] for array in arrays))

    def residuals(self, window_to_map: Similarity) -> np.ndarray:
        """`(M,)` distances between moved and map points, relative to their depth."""
        return np.asarray(np.linalg.norm(window_to_map.apply(self.window) - self.map, axis=-1) / self.depth)


def align_window(
    in_map: Sequence[PosedDepth],
    in_window: Sequence[PosedDepth],
    intrinsics: Sequence[np.ndarray],
    expected_scale: float,
    spread: Spread | None = None,
    is_metric: bool = False,
) -> WindowAlignment:
    """Place a window in the map by the views that both know, oldest first; never fails.

    Args:
        in_map: the shared views as the map has them.
        in_window: the same views as the new window has them; same sizes.
        intrinsics: their `(3, 3)` matrices, pixel edges at integers.
        expected_scale: map units per window unit, used when no pixel of the shared views is valid in both.
        spread: how far cameras and depths of shared views are apart, as far as known.
        is_metric: both are in metres, so that the scale is 1 whatever the depths say.
    """
    points = _corresponding_points(in_map, in_window, intrinsics)
    scale = points.scale if len(points.weight) else expected_scale
    scale = 1.0 if is_metric else scale

    by_views = _fit_views(in_map, in_window, points, scale, spread or Spread(), is_metric)
    residual = _median_residual(points, by_views)
    if points.enough:
        if residual <= MAX_RESIDUAL:
            return WindowAlignment(by_views, "points", residual)
        by_points = _fit_points(points, Similarity(scale, by_views.rotation, by_views.translation))
        residual_of_points = _median_residual(points, by_points)
        if residual_of_points <= MAX_RESIDUAL:
            return WindowAlignment(by_points, "points", residual_of_points)
        if _poses_agree(points, by_views, in_map, in_window):
            return WindowAlignment(by_views, "poses", residual)
    newest = points.of_view(len(in_map) - 1)
    by_last_view = _fit_views(in_map[-1:], in_window[-1:], newest, scale, spread or Spread(), is_metric)
    return WindowAlignment(by_last_view, "last_view", _median_residual(points, by_last_view))


def compare_depths(
    in_map: Sequence[PosedDepth],
    in_window: Sequence[PosedDepth],
    intrinsics: Sequence[np.ndarray],
    scale: float | None,
) -> tuple[float, float]:
    """How the depths of views that the map and a window share agree, whatever their poses.

    Args:
        in_map, in_window, intrinsics: as of `align_window`.
        scale: map units per window unit, or None for the one that agrees best.

    Returns:
        The scale, and how far depths are apart after it, relative, median; NaN where no pixel is valid in both.
    """
    points = _corresponding_points(in_map, in_window, intrinsics)
    if not len(points.weight):
        return float("nan") if scale is None else scale, float("nan")
    scale = points.scale if scale is None else scale
    return scale, _weighted_median(np.abs(1 - scale / points.depth_ratio), points.weight)


def _corresponding_points(
    in_map: Sequence[PosedDepth], in_window: Sequence[PosedDepth], intrinsics: Sequence[np.ndarray]
) -> _Points:
    """The same pixels of the same views, thinned to a grid, in both worlds."""
    height, width = in_map[0].depth.shape
    step = max(1, int(np.ceil(np.sqrt(len(in_map) * height * width / MAX_POINTS))))
    grid = slice(step // 2, height, step), slice(step // 2, width, step)
    rows, columns = np.mgrid[grid]
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones_like(rows)], axis=-1).reshape(-1, 3)

    per_view = []
    for number, (map_view, window_view, camera_matrix) in enumerate(zip(in_map, in_window, intrinsics, strict=True)):
        map_depth, window_depth = map_view.sampled_depth(grid), window_view.sampled_depth(grid)  # (h, w)
        valid = np.isfinite(map_depth) & np.isfinite(window_depth)
        weight = np.ones(rows.shape)
        if map_view.confidence is not None and window_view.confidence is not None:
            weight = _weights(map_view.confidence[grid], window_view.confidence[grid])
        valid &= weight > 0
        rays = pixels[valid.ravel()] @ np.linalg.inv(camera_matrix).T  # (P, 3), z is 1
        map_depth, window_depth = map_depth[valid], window_depth[valid]  # (P,)
        per_view.append(
            (
                np.full(len(rays), number),
                _to_world(window_view, rays, window_depth),  # (P, 3)
                _to_world(map_view, rays, map_depth),
                map_depth,
                map_depth / window_depth,
                weight[valid],
            )
        )
    arrays = [np.concatenate(values) for values in zip(*per_view, strict=True)]
    return _Points(len(per_view) * rows.size, *arrays)


def _weights(map_confidence: np.ndarray, window_confidence: np.ndarray) -> np.ndarray:
    """Geometric mean of what both confidences have above their minimum 1; 0 for pixels that one of them doubts."""
    above = np.maximum(np.stack([map_confidence, window_confidence]).astype(np.float64) - 1, 0)
    floor = 0.1 * np.median(above, axis=(1, 2)).min()
    if not floor > 0:  # confidence says nothing
        return np.ones(map_confidence.shape)
    return np.where((above >= floor).all(axis=0), np.sqrt(above[0] * above[1]), 0)


def _to_world(view: PosedDepth, rays: np.ndarray, depth: np.ndarray) -> np.ndarray:
    camera_to_world = view.camera_to_world
    return np.asarray((rays * depth[:, None]) @ camera_to_world[:3, :3].T + camera_to_world[:3, 3])


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])


def _fit_views(
    in_map: Sequence[PosedDepth],
    in_window: Sequence[PosedDepth],
    points: _Points,
    scale: float,
    spread: Spread,
    is_metric: bool,
) -> Similarity:
    """By the shared cameras and the ratio of the depths of each view, robustly; begins at `scale`."""
    map_cameras = np.stack([view.camera_to_world for view in in_map])  # (S, 4, 4)
    window_cameras = np.stack([view.camera_to_world for view in in_window])
    rotations = map_cameras[:, :3, :3] @ window_cameras[:, :3, :3].transpose(0, 2, 1)
    rotation = central_rotation(rotations)
    translation = np.median(map_cameras[:, :3, 3] - scale * window_cameras[:, :3, 3] @ rotation.T, axis=0)
    start = Similarity(scale, rotation, translation)

    seen = [points.view == view for view in range(len(in_map))]
    known = [bool(chosen.any()) for chosen in seen]
    ratios = [
        _weighted_median(np.log(points.depth_ratio[chosen]), points.weight[chosen]) if any_ else np.log(scale)
        for chosen, any_ in zip(seen, known, strict=True)
    ]
    depth = float(np.median(points.map_depth)) if len(points.map_depth) else 1.0
    views = np.arange(len(in_map))
    sightings = Sightings(
        window=np.zeros(len(views), np.int64),
        frame=views,
        rotation=window_cameras[:, :3, :3],
        centre=window_cameras[:, :3, 3],
        depth=np.full(len(views), depth / scale),
        log_ratio=-np.array(ratios),
        spreads=spreads_of(np.array(known)),
    )
    frames = Places(map_cameras[:, :3, :3], map_cameras[:, :3, 3], np.zeros(len(views)))
    windows, _ = adjust(
        sightings,
        Places.of([start]),
        frames,
        spread,
        fixed_windows=np.zeros(1, bool),
        fixed_frames=np.ones(len(views), bool),
        scale_priors=ScalePriors(np.zeros(1), np.full(1, METRIC_DEVIATION)) if is_metric else None,
        converged=SETTLED,
    )
    return windows[0]


def _fit_points(points: _Points, start: Similarity) -> Similarity:
    """Rotation and translation by iteratively reweighted least squares; the scale stays.

    A least-squares scale would shrink a little with every window, because noise in the window's points looks like
    spread; the ratio of depths has no such bias.
    """
    fit = start
    residual = points.residuals(fit)
    for _ in range(ITERATIONS):
        # Geman and McClure's weight, which gives outliers none; its width follows the residuals.
        width = max(2 * float(np.median(residual)), 1e-6)
        weight = points.weight / points.depth**2 / (1 + (residual / width) ** 2) ** 2
        try:
            rotation = fit_similarity(points.window, points.map, weight).rotation
        except DegenerateError:
            break
        offsets = points.map - fit.scale * points.window @ rotation.T  # (P, 3)
        fit = Similarity(fit.scale, rotation, weight @ offsets / weight.sum())
        previous, residual = residual, points.residuals(fit)
        if np.abs(residual - previous).max() < 1e-6:
            break
    return fit


def _poses_agree(
    points: _Points, fit: Similarity, in_map: Sequence[PosedDepth], in_window: Sequence[PosedDepth]
) -> bool:
    """At least two shared cameras, most of all, keep their place relative to each other, and depths have one ratio."""
    map_cameras = np.stack([view.camera_to_world for view in in_map])  # (V, 4, 4)
    moved_cameras = np.stack([fit.transform_camera(view.camera_to_world) for view in in_window])
    offsets = np.linalg.norm(moved_cameras[:, :3, 3] - map_cameras[:, :3, 3], axis=-1)
    # The Frobenius norm of a difference of rotations is sqrt(2) times the angle between them, while that is small.
    angles = np.linalg.norm(moved_cameras[:, :3, :3] - map_cameras[:, :3, :3], axis=(1, 2)) / np.sqrt(2)
    ratio_spread = _weighted_median(np.abs(np.log(points.depth_ratio / fit.scale)), points.weight)
    return bool(
        len(in_map) >= 2
        and np.median(offsets) <= MAX_RESIDUAL * np.median(points.map_depth)
        and np.median(angles) <= MAX_ROTATION_SPREAD
        and ratio_spread <= MAX_RATIO_SPREAD
    )


def _median_residual(points: _Points, fit: Similarity) -> float:
    return _weighted_median(points.residuals(fit), points.weight) if len(points.weight) else float("nan")
