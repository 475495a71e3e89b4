# SPDX-License-Identifier: Apache-2.0
"""The windows of a map, and what they say about the frames that they share, adjusted together.

A live stream keeps the last windows only: what the windows that leave have said about a frame is kept as the frame's
place, which from then on stays. A recorded stream keeps all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from da3_core.geometry.pose_graph import Places, ScalePriors, Sightings, Spread, adjust, measure_spread, spreads_of
from da3_core.geometry.similarity import Similarity, central_rotation

Name = TypeVar("Name", bound=Hashable)  # tells frames apart

SAMPLES = 600  # pixels of a view whose depth is compared
LIVE_WINDOWS = 8
LIVE_STEPS = 2
RECORDED_ROUNDS = 10  # at most
SETTLED = 0.05  # relative change of a spread from round to round
LARGEST_OFFSET = 0.2  # relative to depth, median over the frames that a window shares: beyond it they contradict it
LARGEST_ANGLE = 0.1  # radians, the same
LOOP_WIDTHS = (1e3, 1e2, 10.0, 3.0, 3.0)  # of Cauchy's weight, in spreads, one after the other
DOUBTED_BELOW = 0.1  # of the median confidence above its minimum 1: such pixels are not compared


@dataclass(frozen=True, eq=False)
class WindowViews(Generic[Name]):
    """What one inference says.

    Attributes:
        frames: what tells its `N` frames apart.
        camera_to_window: `(N, 4, 4)` float64 rigid.
        depth: `(N, H, W)` z-depth in the unit of the window.
        confidence: `(N, H, W)`, at least 1, or None.
        sky: `(N, H, W)` bool or None.
    """

    frames: Sequence[Name]
    camera_to_window: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None
    sky: np.ndarray | None

    def part(self, chosen: slice) -> WindowViews[Name]:
        """Some of the frames."""
        return WindowViews(
            self.frames[chosen],
            self.camera_to_window[chosen],
            self.depth[chosen],
            None if self.confidence is None else self.confidence[chosen],
            None if self.sky is None else self.sky[chosen],
        )

    def sampled_log_depth(self) -> np.ndarray:
        """`(N, P)` float32 on a grid of pixels; NaN where there is none, or confidence doubts it."""
        height, width = self.depth.shape[1:]
        step = max(1, int(np.ceil(np.sqrt(height * width / SAMPLES))))
        grid = (slice(None), slice(step // 2, None, step), slice(step // 2, None, step))
        depth = self.depth[grid].reshape(len(self.depth), -1)
        valid = np.isfinite(depth) & (depth > 0)
        if self.sky is not None:
            valid &= ~self.sky[grid].reshape(depth.shape)
        if self.confidence is not None:
            above = self.confidence[grid].reshape(depth.shape) - 1
            valid &= above >= DOUBTED_BELOW * np.median(above, axis=1, keepdims=True)
        return np.log(np.where(valid, depth, np.nan), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Window(Generic[Name]):
    """What a window says: `Sightings` of its frames by name, and where it is."""

    frames: tuple[Name, ...]
    rotation: np.ndarray  # (N, 3, 3)
    centre: np.ndarray  # (N, 3)
    depth: np.ndarray  # (N,)
    log_ratio: np.ndarray  # (N,)
    spreads: np.ndarray | None  # (N, 3)
    scale_prior: tuple[float, float]  # mean and deviation of its log scale, from elsewhere
    place: Similarity


@dataclass(frozen=True, eq=False)
class PlacedFrame:
    """A frame: its camera's axes in the map, map units per unit of the depth that it is known by, and samples of
    that."""

    place: Similarity
    log_depth: np.ndarray  # (P,)
    stays: bool


class WindowGraph(Generic[Name]):
    """Windows and their frames in one map.

    Args:
        most_windows: so many are adjusted together, the last ones; None for all.
    """

    def __init__(self, most_windows: int | None) -> None:
        self._most_windows = most_windows
        self._windows: deque[_Window[Name]] = deque()
        self._frames: dict[Name, PlacedFrame] = {}
        self._median_depth: float | None = None  # until something moves
        self.spread = Spread()

    def clear(self) -> None:
        """Forget the map, but not how well windows agree."""
        self._windows.clear()
        self._frames.clear()

    def __contains__(self, frame: Name) -> bool:
        return frame in self._frames

    def camera_to_map(self, frame: Name) -> np.ndarray:
        """`(4, 4)` float64, where a frame's camera is by now."""
        camera = np.eye(4)
        place = self._frames[frame].place
        camera[:3, :3], camera[:3, 3] = place.rotation, place.translation
        return camera

    def cameras_to_map(self) -> np.ndarray:
        """`(F, 4, 4)` float64 of all `frames`."""
        cameras = np.tile(np.eye(4), (len(self._frames), 1, 1))
        for camera, frame in zip(cameras, self._frames.values(), strict=True):
            camera[:3, :3], camera[:3, 3] = frame.place.rotation, frame.place.translation
        return cameras

    def placed(self, frame: Name) -> PlacedFrame:
        """Where a frame is by now, and what its depth is known by."""
        return self._frames[frame]

    def depth_scale(self, frame: Name) -> float:
        """Map units per unit of the depth that the first window said of a frame."""
        return self._frames[frame].place.scale

    @property
    def frames(self) -> tuple[Name, ...]:
        return tuple(self._frames)

    @property
    def windows(self) -> int:
        return len(self._windows)

    def window_to_map(self) -> Similarity:
        """Of the newest window."""
        return self._windows[-1].place

    def shared_frames(self) -> float:
        """Of the frames of a window so many have been in others, on average."""
        return (sum(len(window.frames) for window in self._windows) - len(self._frames)) / len(self._windows)

    def scale_drift(self) -> float:
        """Variance of the logarithm by which the map's unit may drift from window to window."""
        return 2 * self.spread.log_depth**2 / max(1.0, self.shared_frames())

    def log_scales(self) -> list[float]:
        """Map units per unit of each window, as logarithm, oldest first."""
        return [float(np.log(window.place.scale)) for window in self._windows]

    def rescale(self, factor: float, about: Name) -> Similarity:
        """Make everything larger, in map units; the camera of the frame `about` stays where it is. How all moved."""
        centre = self._frames[about].place.translation
        larger = Similarity(factor, np.eye(3), (1 - factor) * centre)
        self.move(larger)
        return larger

    def median_depth(self) -> float:
        """Of the views of all windows, in map units."""
        if self._median_depth is None:
            depths = np.concatenate([window.place.scale * window.depth for window in self._windows])
            self._median_depth = float(np.median(depths))
        return self._median_depth

    def centre_deviation(self) -> float:
        """Standard deviation of a coordinate of a frame's camera, in map units, as far as windows contradict."""
        sightings = sum(len(window.frames) for window in self._windows) / len(self._frames)
        return self.spread.centre * self.median_depth() / float(np.sqrt(sightings))

    def locate(self, views: WindowViews[Name]) -> Similarity | None:
        """About where a window lies by the frames it shares; None where it shares none, or they contradict it."""
        return locate([self._frames.get(name) for name in views.frames], views)

    def move(self, by: Similarity) -> None:
        """All windows and frames, as one."""
        self._median_depth = None
        self._windows = deque(replace(window, place=by @ window.place) for window in self._windows)
        self._frames = {name: replace(frame, place=by @ frame.place) for name, frame in self._frames.items()}

    def fix(self, views: WindowViews[Name], camera_to_map: np.ndarray) -> None:
        """Frames whose cameras `(N, 4, 4)` and depths, in map units, are known and stay."""
        for i, log_depth in enumerate(views.sampled_log_depth()):
            place = Similarity(1.0, camera_to_map[i, :3, :3], camera_to_map[i, :3, 3])
            self._frames[views.frames[i]] = PlacedFrame(place, log_depth, stays=True)

    def add(
        self,
        views: WindowViews[Name],
        window_to_map: Similarity | None,
        scale_prior: tuple[float, float] = (0.0, np.inf),
    ) -> np.ndarray:
        """A window that lies about where `window_to_map` takes it.

        Args:
            window_to_map: None makes its world and unit those of the map.
            scale_prior: mean and deviation of the logarithm of its scale, where that is known from elsewhere.

        Returns:
            `(N,)` its depth of each frame over that which the first window said, as logarithm; 0 for new frames.
        """
        window_to_map = window_to_map or Similarity.identity()
        samples = views.sampled_log_depth()
        cameras_in_map = window_to_map.transform_camera(views.camera_to_window)
        log_ratio, compared = _log_ratios(
            [self._frames.get(frame) for frame in views.frames], samples, window_to_map.scale
        )
        is_new = np.array([frame not in self._frames for frame in views.frames])
        for i, (frame, log_depth) in enumerate(zip(views.frames, samples, strict=True)):
            if frame not in self._frames:
                place = Similarity(window_to_map.scale, cameras_in_map[i, :3, :3], cameras_in_map[i, :3, 3])
                self._frames[frame] = PlacedFrame(place, log_depth, stays=False)
        depth = np.exp(_nan_median(samples))
        known = np.isfinite(depth)
        self._windows.append(
            _Window(
                frames=tuple(views.frames),
                rotation=views.camera_to_window[:, :3, :3],
                centre=views.camera_to_window[:, :3, 3],
                depth=np.where(known, depth, np.median(depth[known]) if known.any() else 1.0),
                log_ratio=log_ratio,
                spreads=None if not compared.any() else spreads_of(compared | is_new),
                scale_prior=scale_prior,
                place=window_to_map,
            )
        )
        self._median_depth = None
        self._forget()
        return log_ratio

    def adjust(self, steps: int = LIVE_STEPS, cauchy_width: float | None = None) -> None:
        """Move windows and frames to where all that is kept agrees best, and measure how well it does."""
        sightings, windows, frames, names, fixed_windows = self._collected()
        more = {} if cauchy_width is None else {"cauchy_width": cauchy_width}
        windows, frames = adjust(
            sightings,
            windows,
            frames,
            self.spread,
            fixed_windows=fixed_windows,
            fixed_frames=np.array([self._frames[name].stays for name in names]),
            scale_priors=ScalePriors(*np.array([window.scale_prior for window in self._windows]).T),
            steps=steps,
            **more,
        )
        self._median_depth = None
        self.spread = measure_spread(sightings, windows, frames, self.spread)
        for number, window in enumerate(self._windows):
            self._windows[number] = replace(window, place=windows[number])
        for number, name in enumerate(names):
            self._frames[name] = replace(self._frames[name], place=frames[number])

    def adjust_fully(self) -> None:
        """`adjust` until nothing moves, in turn with the measured spreads."""
        for _ in range(RECORDED_ROUNDS):
            before = np.array(astuple(self.spread))
            self.adjust(steps=20)
            if (np.abs(np.array(astuple(self.spread)) - before) <= SETTLED * before).all():
                break

    def adjust_loops(self) -> None:
        """`adjust_fully` after loops were added, whose errors are large until they are closed: at first all count."""
        for width in LOOP_WIDTHS:
            self.adjust(steps=20, cauchy_width=width)

    def _collected(self) -> tuple[Sightings, Places, Places, list[Name], np.ndarray]:
        names = list(self._frames)
        number_of = {name: number for number, name in enumerate(names)}
        sizes = [len(window.frames) for window in self._windows]

        def joined(part: Callable[[_Window[Name]], np.ndarray]) -> np.ndarray:
            return np.concatenate([part(window) for window in self._windows])

        sightings = Sightings(
            window=np.repeat(np.arange(len(sizes)), sizes),
            frame=np.array([number_of[name] for window in self._windows for name in window.frames]),
            rotation=joined(lambda window: window.rotation),
            centre=joined(lambda window: window.centre),
            depth=joined(lambda window: window.depth),
            log_ratio=joined(lambda window: window.log_ratio),
            spreads=joined(_spreads) if any(window.spreads is not None for window in self._windows) else None,
        )
        windows = Places.of([window.place for window in self._windows])
        frames = Places.of([frame.place for frame in self._frames.values()])
        fixed_windows = np.zeros(len(windows), bool)
        fixed_windows[0] = not any(frame.stays for frame in self._frames.values())
        return sightings, windows, frames, names, fixed_windows

    def _forget(self) -> None:
        """Let the oldest windows go. Their frames stay where they are, as long as another window shows them."""
        if self._most_windows is None or len(self._windows) <= self._most_windows:
            return
        leaving: set[Name] = set()
        while len(self._windows) > self._most_windows:
            leaving |= set(self._windows.popleft().frames)
        shown = {name for window in self._windows for name in window.frames}
        self._frames = {
            name: replace(frame, stays=frame.stays or name in leaving)
            for name, frame in self._frames.items()
            if name in shown
        }


def _spreads(window: _Window[Name]) -> np.ndarray:
    return np.ones((len(window.frames), 3)) if window.spreads is None else window.spreads


def locate(frames: Sequence[PlacedFrame | None], views: WindowViews[Name]) -> Similarity | None:
    """About where a window lies by its frames that are known; None where there are none, or they contradict it."""
    shared = [i for i, frame in enumerate(frames) if frame is not None]
    known = [frame for frame in frames if frame is not None]
    if not known:
        return None
    samples = views.sampled_log_depth()[shared]
    log_scales = [
        np.log(frame.place.scale) - _log_ratios([frame], log_depth[None], frame.place.scale)[0][0]
        for frame, log_depth in zip(known, samples, strict=True)
    ]
    scale = float(np.exp(np.median(log_scales)))
    cameras = views.camera_to_window[shared]
    map_rotations = np.stack([frame.place.rotation for frame in known])
    origins = np.stack([frame.place.translation for frame in known])
    rotation = central_rotation(map_rotations @ cameras[:, :3, :3].transpose(0, 2, 1))
    away = origins - scale * cameras[:, :3, 3] @ rotation.T
    translation = np.median(away, axis=0)
    offset = float(np.median(np.linalg.norm(away - translation, axis=1)))
    turned = np.linalg.norm(rotation @ cameras[:, :3, :3] - map_rotations, axis=(1, 2)) / np.sqrt(2)
    depth = scale * float(np.exp(np.nanmedian(samples))) if np.isfinite(samples).any() else np.inf
    agree = offset <= LARGEST_OFFSET * depth and bool(np.median(turned) <= LARGEST_ANGLE)
    return Similarity(scale, rotation, translation) if agree else None


def _log_ratios(
    frames: Sequence[PlacedFrame | None], log_depth: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """`(N,)` of the depths `(N, P)` that a window says over those that frames are known by; as the map has them where
    no pixel is known of both; 0 for new frames. And `(N,)` bool, where pixels are known of both."""
    ratios = np.full(log_depth.shape, np.nan, np.float32)
    for i, frame in enumerate(frames):
        if frame is not None and frame.log_depth.shape == log_depth[i].shape:
            ratios[i] = log_depth[i] - frame.log_depth
    known = _nan_median(ratios)
    in_map = np.array([0.0 if frame is None else np.log(frame.place.scale / scale) for frame in frames])
    compared = np.isfinite(known)
    return np.where(compared, known, in_map), compared


def _nan_median(values: np.ndarray) -> np.ndarray:
    """`(N,)` medians of the numbers in the rows of `(N, P)`; NaN for rows without any."""
    ordered = np.sort(values, axis=1)  # NaN comes last
    count, rows = np.isfinite(values).sum(1), np.arange(len(values))
    low, high = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, count // 2 % values.shape[1]]
    return np.asarray(np.where(count > 0, (low + high) / 2, np.nan), np.float64)
