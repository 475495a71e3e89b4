# SPDX-License-Identifier: Apache-2.0
"""A stream of windows of frames becomes depth and camera poses in one map.

Every inference over a window has a world frame and a scale of its own. Consecutive windows share frames, and a new
window is moved, turned and scaled until it agrees with what the last windows say about them, all of which count. What
was published about a frame stands; where the frame is by now is told beside it. Where poses of the cameras are known,
they are the map.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.alignment import METRIC_DEVIATION, PosedDepth, align_window, compare_depths
from da3_core.geometry.cameras import invert_rigid, level_axes
from da3_core.geometry.similarity import Similarity
from da3_core.prediction import IntrinsicsOrigin, Prediction
from da3_core.stream.corrections import Bend, CorrectedPose, corrected_poses
from da3_core.stream.frame import Frame, FrameName
from da3_core.stream.inference import Decoded, decoded_views
from da3_core.stream.key_frames import Unit
from da3_core.stream.known_cameras import KnownCameras, known_cameras
from da3_core.stream.known_scale import KnownScale
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.measured_scale import by_height, by_reference_depth, ground_of, in_metres
from da3_core.stream.prepared import prepared
from da3_core.stream.scale_filter import ModelMetres
from da3_core.stream.steady_motion import SteadyMotion
from da3_core.stream.uncertainty import MapUncertainty
from da3_core.stream.window_graph import LIVE_WINDOWS, WindowGraph, WindowViews

_Intrinsics: TypeAlias = tuple[np.ndarray, IntrinsicsOrigin] | tuple[None, None]
ScaleSource = Literal["none", "model", "fixed", "poses", "depth", "height"]
SessionScale = Literal["auto", "poses", "model", "fixed", "depth", "height", "none"]
UpSource = Literal["first camera", "imu", "tf", "floor"]
Placement = Literal["origin", "points", "poses", "last_view", "known", "unposed"]

FOCAL_LENGTH_WINDOWS = 301  # the running median looks this far back
MEASURED: tuple[ScaleSource, ...] = ("depth", "height")  # in every window anew, as a metric model says metres
# Whose unit a map keeps where loops are closed.
UNITS: dict[ScaleSource, Unit] = {"poses": "fixed", "model": "newest", "depth": "newest", "height": "newest"}


@dataclass(frozen=True)
class SessionOptions:
    """Choices of a session.

    Attributes:
        scale_source: `poses` takes the metres of frames whose cameras are known, `model` those of models that predict
            metres, `auto` the former where there are any, else the latter; `fixed` multiplies the first window of the
            map by `fixed_m_per_unit`; `depth` takes the metres of the frames' reference depth, `height` those of the
            ground that is `camera_height_m` below the cameras; `none` leaves the model's unit. Only `auto` and `poses`
            heed known cameras. What was applied is in `WindowResult.scale_source`.
        fixed_m_per_unit: metres per unit of the model.
        alignment_views: of the views that the last window had too, so many are decoded anew, to place the window; None
            for all, which windows with known poses or measured metres need in any case.
        up: what makes a map level: `floor` that its first view shows; `imu` and `tf` are `Frame.up` of its first frame.
            What did is in `WindowResult.up`.
    """

    scale_source: SessionScale
    fixed_m_per_unit: float
    camera_height_m: float = 1.0
    alignment_views: int | None = None
    up: UpSource = "first camera"

    @property
    def decoded_again(self) -> int | None:
        """`alignment_views`, as far as where metres come from leaves the choice."""
        return None if self.scale_source in MEASURED else self.alignment_views


@dataclass(frozen=True, eq=False)
class View:
    """What a session knows about one frame.

    Attributes:
        frame: the frame as given.
        number: of the frame; counts those of the session.
        is_new: true in the one result that should be published; false where the view repeats an earlier result.
        image: `(H, W, 3)` uint8 RGB, the pixels that the network saw.
        depth: `(H, W)` float32 z-depth in map units, as predicted: sky holds a number too, `sky` tells. NaN all over
            for a view that is not new and was not decoded in the window that began this map.
        confidence: `(H, W)` float32, at least 1, or None.
        sky: `(H, W)` bool or None.
        intrinsics: `(3, 3)` float64 of the processed image, pixel edges at integers: those of the frame where given,
            else the model's estimate with the running median of its focal lengths, else what was assumed to find poses;
            None where there is none of these.
        world_to_camera: `(4, 4)` float64 rigid, OpenCV axes, map units; the world is the map, in the optical axes of
            its first camera, or that of the frames' own poses. None where no pose is known.
        processed_from_original: `(3, 3)` float64, see `Prediction`, or None.
        intrinsics_source: which of these `intrinsics` are, or None.
        pose_covariance: `(6, 6)` float64 of the camera's position in the world, in map units, then of its rotation in
            radians about the axes of the world, relative to where the map began; it grows along the chain of windows.
            None where no pose is known, or the frame came with it.
    """

    frame: Frame
    number: int
    is_new: bool
    image: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray | None
    sky: np.ndarray | None
    intrinsics: np.ndarray | None
    world_to_camera: np.ndarray | None
    processed_from_original: np.ndarray | None
    intrinsics_source: IntrinsicsOrigin | None = None
    pose_covariance: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class WindowResult:
    """One inference, placed in the map.

    Attributes:
        views: one per frame, in the order given.
        placement: what the place of this window rests on. `origin`: it defines the map, whose frame is the first
            camera's optical frame. `points`, `poses`, `last_view`: see `WindowAlignment.method`. `known`: the poses
            that all its frames came with. `unposed`: a single view, or no poses are known; its views have no pose and
            their depths share no scale with others. The same holds for single views of other windows that the
            prediction could not place.
        scale_m_per_unit: metres per unit of this inference, already applied; with `scale_source` none, map units.
        scale_source: where metres come from; none: the map's unit is arbitrary.
        alignment_residual: median distance to the map on the shared views, relative to depth; NaN without such views.
        segment: counts the maps of the session. It grows when a window could not be joined to the map before it.
        inference_s: duration of the inference, seconds.
        corrected: of the last frames of the map, this window's among them, oldest first, those whose poses are not
            known. For what may be revised: a path, or what places a robot's odometry in the map.
        scale_deviation: standard deviation of the logarithm of the metres, which known poses tell or the windows of a
            metric model, whose average the map follows by at most `LARGEST_STEP` a window; else NaN.
        bend: how all frames of the map were moved to close a loop, before `corrected` was measured; None where they
            were not.
        flicker: how much the scale of the depth of frames that were published before is another in this inference,
            median of the logarithm; NaN without such frames.
        up: what makes the map level; `first camera`: that is taken to be.
    """

    views: tuple[View, ...]
    placement: Placement
    scale_m_per_unit: float
    scale_source: ScaleSource
    alignment_residual: float
    segment: int
    inference_s: float
    corrected: tuple[CorrectedPose, ...] = ()
    scale_deviation: float = float("nan")
    bend: Bend | None = None
    flicker: float = float("nan")
    up: UpSource = "first camera"


@dataclass(frozen=True, eq=False)
class _Placed:
    """Where a window lies in the map, and how that was found.

    Attributes:
        window_to_map: takes its cameras there.
        depth_scale: map units per unit of its depth; another scale than that of `window_to_map` where poses are known.
        starts_map: it defines a new map.
        flicker: see `WindowResult`.
    """

    window_to_map: Similarity
    depth_scale: float
    placement: Placement
    scale_source: ScaleSource
    residual: float = float("nan")
    starts_map: bool = False
    flicker: float = float("nan")


@dataclass(frozen=True, eq=False)
class _Published:
    """A view as published, and its frame's name."""

    view: View
    name: FrameName


class Session:
    """Turns windows of frames into results that share one map, with constant memory: the views of the last window,
    and of the last `LIVE_WINDOWS` what they say about cameras and scales.

    Frames shared by consecutive windows are recognised by being the same objects.
    """

    def __init__(
        self,
        infer: Callable[..., Prediction],
        options: SessionOptions,
        loops: LiveLoops | None = None,
    ) -> None:
        """Bind a session to `infer`, the model with its inference options, and to what closes loops, if anything.

        `infer` is given frames and, where not all of them need it, the numbers of those whose depth is wanted.
        """
        self._infer, self._options, self._loops = infer, options, loops
        self.reset()

    def reset(self) -> None:
        """Forget the map; the next window defines a new one."""
        self._published: dict[Frame, _Published] = {}  # of the last window
        self._depth_scales: dict[FrameName, float] = {}  # map units per unit of the depth of the graph, as published
        self._frames_seen = 0
        self._last: WindowResult | None = None
        self._graph: WindowGraph[FrameName] = WindowGraph(LIVE_WINDOWS)
        self._uncertainty = MapUncertainty()
        self._motion = SteadyMotion()
        self._known_scale = KnownScale()
        self._model_metres = ModelMetres()
        self._has_map = False
        self._up: UpSource = "first camera"
        self._map_is_known = False  # by poses that frames came with
        self._segment = 0
        self._scale_source: ScaleSource = "none"  # of the last window
        self._scale = 1.0  # map units per unit of the last window
        self._focal_lengths: deque[np.ndarray] = deque(maxlen=FOCAL_LENGTH_WINDOWS)
        if self._loops:
            self._loops.clear()

    def process(self, frames: Sequence[Frame]) -> WindowResult:
        """Infer a window and place it in the map.

        Args:
            frames: 1 to N frames of one size, oldest first.

        Raises:
            InputError: no frames, or frames of several sizes. The session is then unchanged, as it is when the
                inference raises.
        """
        _check(frames)
        started = time.perf_counter()
        decoded = self._decoded(frames)
        prediction = self._infer(frames) if decoded is None else self._infer(frames, decoded)
        inference_s = time.perf_counter() - started
        prediction = prepared(prediction, frames, self._published.keys() & set(frames))
        bend = self._bend()

        intrinsics = self._intrinsics(frames, prediction)
        names = self._names(frames)
        heeds = self._options.scale_source in ("auto", "poses")
        known = known_cameras(frames, names, prediction, self._known_scale) if heeds else None
        prediction = known.prediction if known else prediction
        measured = self._measured(frames, prediction)
        if self._options.scale_source in MEASURED:
            prediction = in_metres(prediction, measured)
        if known and known.in_map:
            placed = self._place_known(frames, known)
        else:
            placed = self._place(frames, names, prediction, known)
        self._segment += placed.starts_map and self._has_map
        self._has_map |= placed.starts_map
        if placed.starts_map:
            self._map_is_known = placed.placement == "known"
            bend = None

        self._publish(frames, names, prediction, intrinsics, placed)
        if placed.placement == "known":
            self._fix_known()
        if placed.placement != "unposed":
            self._scale, self._scale_source = placed.depth_scale, placed.scale_source
        self._follow_loops(prediction, placed)
        applied = (known.metres_per_unit if known else measured) or 1.0
        self._last = WindowResult(
            views=tuple(each.view for each in self._published.values()),
            placement=placed.placement,
            scale_m_per_unit=applied * placed.depth_scale,
            scale_source=placed.scale_source,
            alignment_residual=placed.residual,
            segment=self._segment,
            inference_s=inference_s,
            corrected=self._corrected(prediction, placed) if placed.placement not in ("known", "unposed") else (),
            scale_deviation=known.deviation if known else self._model_deviation(placed),
            bend=bend,
            flicker=placed.flicker,
            up=self._up,
        )
        return self._last

    def settle(self) -> WindowResult | None:
        """After the last window of a stream: what it is if a loop that was found with it is closed, with no new views;
        None where that changes nothing.

        Raises:
            Exception: what the inference does.
        """
        bend = self._bend()
        if bend is None or self._last is None:
            return None
        views = tuple(replace(view, is_new=False) for view in self._last.views)
        return replace(self._last, views=views, bend=bend, corrected=corrected_poses(self._graph, self._depth_scales))

    def _decoded(self, frames: Sequence[Frame]) -> Decoded:
        """Which frames need depth: all that the map lacks depth or a pose of, and some that it can be placed by."""
        old = [
            i
            for i, frame in enumerate(frames)
            if (known := self._published.get(frame)) and known.view.world_to_camera is not None
        ]
        placing = [i for i in old if not np.isnan(self._published[frames[i]].view.depth).all()]
        return decoded_views(frames, old, self._options.decoded_again, placing)

    def _measured(self, frames: Sequence[Frame], prediction: Prediction) -> float | None:
        """Metres per unit, where they are to be measured and can be."""
        if self._options.scale_source == "depth":
            return by_reference_depth(frames, prediction)
        if self._options.scale_source == "height":
            return by_height(frames, prediction, self._options.camera_height_m)
        return None

    def _bend(self) -> Bend | None:
        """Close a loop that has been found since the last window."""
        taken = self._loops.take() if self._loops else None
        if taken is None:
            return None
        bend, move, uncertainty = taken
        self._graph.move(move)
        self._motion.bend()
        self._uncertainty = uncertainty
        return bend

    def _follow_loops(self, prediction: Prediction, placed: _Placed) -> None:
        """Of a map that is not known already."""
        if self._loops is None:
            return
        if placed.starts_map or self._map_is_known:
            self._loops.clear()
        if self._map_is_known or placed.placement == "unposed" or prediction.class_tokens is None:
            return
        newest = int(np.flatnonzero(prediction.placed)[-1])
        published = list(self._published.values())[newest]
        view, frame = published.view, published.view.frame
        seen = Frame(
            view.image,
            frame.stamp_ns,
            frame.camera,
            intrinsics=view.intrinsics if view.intrinsics_source == "known" else None,
            source=frame.source,
        )
        self._loops.follow(
            self._graph,
            self._uncertainty,
            published.name,
            seen,
            prediction.class_tokens[newest],
            window=len(self._published),
            unit=UNITS.get(placed.scale_source, "first"),
        )

    def _place(
        self,
        frames: Sequence[Frame],
        names: Sequence[FrameName],
        prediction: Prediction,
        known: KnownCameras | None,
    ) -> _Placed:
        """By the views that the last window and this one share, if there are any, and all windows adjusted together."""
        source = self._source(prediction, known)
        scale = self._options.fixed_m_per_unit if source == "fixed" else 1.0
        if prediction.extrinsics is None or len(frames) == 1:
            return _Placed(Similarity.identity(), scale, "unposed", source)

        some = np.flatnonzero(prediction.placed)
        chosen = prediction if len(some) == len(frames) else prediction.views(some)
        assert chosen.extrinsics is not None
        camera_to_window = invert_rigid(chosen.extrinsics)
        views = WindowViews([names[i] for i in some.tolist()], camera_to_window, chosen.depth, chosen.conf, chosen.sky)
        in_map, in_window, matrices = self._shared(frames, prediction)
        if source in MEASURED and self._scale_source == "none":
            in_map = []  # metres begin a map: that before has another unit
        by_matches = "feature_poses" in prediction.aux
        if not in_map:
            level = self._level(frames[some[0]], prediction, int(some[0]))
            window_to_first = level @ invert_rigid(camera_to_window[0])
            window_to_map = Similarity(scale, window_to_first[:3, :3], scale * window_to_first[:3, 3])
            self._graph.clear()
            self._graph.add(views, window_to_map)
            self._follow_model(None)
            self._uncertainty = MapUncertainty()
            self._uncertainty.add(level[None], self._graph.median_depth(), by_matches)
            return _Placed(window_to_map, scale, "origin", source, starts_map=True)
        is_metric = source == "poses" == self._scale_source
        alignment = align_window(in_map, in_window, matrices, self._scale, self._graph.spread, is_metric)
        starts_map = alignment.method == "last_view"
        if starts_map:
            self._graph.clear()
            self._uncertainty = MapUncertainty()
        is_measured = source == "model" or source in MEASURED
        if not starts_map and (self._map_is_known or (source == "none" and self._scale_source in MEASURED)):
            source = self._scale_source
        prior = (0.0, METRIC_DEVIATION if is_metric else np.inf)  # of the logarithm of the window's scale
        log_ratio = self._graph.add(views, alignment.window_to_map, prior)
        self._graph.adjust()
        if is_measured:
            self._follow_model(None if starts_map else _newest(names, self._published.values()))
        joined_by = np.stack([each.camera_to_world for each in (in_map[-1:] if starts_map else in_map)])
        self._uncertainty.add(joined_by, self._graph.median_depth(), by_matches)
        window_to_map = self._graph.window_to_map()
        return _Placed(
            window_to_map,
            window_to_map.scale,
            alignment.method,
            source,
            alignment.residual,
            starts_map,
            self._flicker(views.frames, np.where(chosen.has_depth, log_ratio + np.log(window_to_map.scale), np.nan)),
        )

    def _level(self, first: Frame, prediction: Prediction, index: int) -> np.ndarray:
        """`(4, 4)` from the optical axes of the first camera to those of the map, whose y is down."""
        up = first.up
        if self._options.up == "floor":
            ground = ground_of(first, prediction, index)
            up = ground.up if ground else None
        self._up = self._options.up if up is not None else "first camera"
        return np.eye(4) if up is None else level_axes(up)

    def _flicker(self, names: Sequence[FrameName], log_scales: np.ndarray) -> float:
        """Of frames of which a window says so many map units per unit of the depth of the graph."""
        changes = [
            abs(log_scale - np.log(self._depth_scales[name]))
            for name, log_scale in zip(names, log_scales, strict=True)
            if name in self._depth_scales and np.isfinite(log_scale)
        ]
        return float(np.median(changes)) if changes else float("nan")

    def _follow_model(self, stays: FrameName | None) -> None:
        """Let the map's unit become the metre of a metric model's windows; the camera of `stays` stays where it is.

        None where the map has just begun, with nothing published yet.
        """
        if stays is None:
            self._model_metres.clear()
        self._model_metres.measure(self._graph.log_scales()[-1], self._graph.scale_drift())
        if stays is not None:
            larger = self._graph.rescale(float(np.exp(self._model_metres.step())), stays)
            if self._loops:
                self._loops.rescale(larger)

    def _model_deviation(self, placed: _Placed) -> float:
        is_joined = placed.placement in ("origin", "points", "poses", "last_view")
        is_followed = is_joined and placed.scale_source in ("model", *MEASURED)
        return self._model_metres.deviation if is_followed else float("nan")

    def _place_known(self, frames: Sequence[Frame], known: KnownCameras) -> _Placed:
        """Where its poses say. Where they say nothing about scale, depth keeps that of the views shared with before."""
        scale, source, residual = 1.0, self._source(known.prediction, known), float("nan")
        shared = self._shared(frames, known.prediction)
        if self._map_is_known and shared[0]:
            agreed, residual = compare_depths(*shared, None if known.metres_per_unit is None else 1.0)
            if known.metres_per_unit is None and np.isfinite(agreed):
                scale, source = agreed, self._scale_source
        starts_map = not self._map_is_known or (source == "poses") != (self._scale_source == "poses")
        return _Placed(Similarity.identity(), scale, "known", source, residual, starts_map)

    def _shared(
        self, frames: Sequence[Frame], prediction: Prediction
    ) -> tuple[list[PosedDepth], list[PosedDepth], list[np.ndarray]]:
        """The views of the last window that are in this one: in the map, in this window's world, their intrinsics."""
        assert prediction.extrinsics is not None
        camera_to_window = invert_rigid(prediction.extrinsics)
        in_map, in_window, matrices = [], [], []
        for i, frame in enumerate(frames):
            published = self._published.get(frame)
            if (
                published is None
                or not prediction.placed[i]
                or published.view.depth.shape != prediction.depth.shape[1:]
            ):
                continue
            view = published.view
            if view.world_to_camera is None or view.intrinsics is None:
                continue
            camera_to_map, by_now = invert_rigid(view.world_to_camera), 1.0
            if published.name in self._graph:
                camera_to_map = self._graph.camera_to_map(published.name)
                by_now = self._graph.depth_scale(published.name) / self._depth_scales[published.name]
            sky = None if prediction.sky is None else prediction.sky[i]
            confidence = None if prediction.conf is None else prediction.conf[i]
            in_map.append(PosedDepth(view.depth, view.confidence, camera_to_map, by_now, view.sky))
            in_window.append(PosedDepth(prediction.depth[i], confidence, camera_to_window[i], sky=sky))
            matrices.append(view.intrinsics)
        return in_map, in_window, matrices

    def _names(self, frames: Sequence[Frame]) -> list[FrameName]:
        names = []
        for frame in frames:
            if frame in self._published:
                names.append(self._published[frame].name)
            else:
                names.append(FrameName(self._frames_seen, frame.stamp_ns, frame.camera))
                self._frames_seen += 1
        return names

    def _publish(
        self,
        frames: Sequence[Frame],
        names: Sequence[FrameName],
        prediction: Prediction,
        intrinsics: Sequence[_Intrinsics],
        placed: _Placed,
    ) -> None:
        """What was published of a frame stands, unless it had no place and has one now, or in another map."""
        has_place = placed.placement != "unposed" and prediction.extrinsics is not None
        steadied: dict[FrameName, np.ndarray] = {}
        if placed.placement in ("points", "poses"):
            new = [frame not in self._published for frame in frames]
            steadied = self._motion.follow(self._graph, frames, names, new)
        elif placed.starts_map:
            self._motion = SteadyMotion()
        published = {}
        for i, (frame, name) in enumerate(zip(frames, names, strict=True)):
            before = self._published.get(frame)
            has_place_now = before and before.view.world_to_camera is None and has_place and prediction.placed[i]
            if before and not placed.starts_map and not has_place_now:
                published[frame] = replace(before, view=replace(before.view, is_new=False))
            else:
                view = _view(frame, name, before is None, prediction, i, intrinsics[i], placed)
                if name in steadied:
                    view = replace(view, world_to_camera=invert_rigid(steadied[name]))
                published[frame] = _Published(self._weighed(view, placed), name)
                self._depth_scales[name] = placed.depth_scale
        self._published = published
        self._depth_scales = {
            name: scale for name, scale in self._depth_scales.items() if name in self._graph or name in names
        }

    def _fix_known(self) -> None:
        """From here on, windows whose poses are not known are placed by these frames."""
        self._graph.clear()
        self._uncertainty = MapUncertainty()
        for published in self._published.values():
            view = published.view
            sky, confidence = view.sky, view.confidence
            views = WindowViews(
                frames=[published.name],
                camera_to_window=np.eye(4)[None],
                depth=view.depth[None],
                confidence=None if confidence is None else confidence[None],
                sky=None if sky is None else sky[None],
            )
            assert view.world_to_camera is not None
            self._graph.fix(views, invert_rigid(view.world_to_camera)[None])
            self._depth_scales[published.name] = 1.0

    def _weighed(self, view: View, placed: _Placed) -> View:
        """With what its pose is worth."""
        if view.world_to_camera is None or placed.placement == "known":
            return view
        camera_to_map = invert_rigid(view.world_to_camera)
        covariance = self._uncertainty.pose_covariance(camera_to_map, self._graph.median_depth(), self._graph.spread)
        return replace(view, pose_covariance=covariance)

    def _corrected(self, prediction: Prediction, placed: _Placed) -> tuple[CorrectedPose, ...]:
        """Of all frames that the graph has, where they are by now."""
        has_depth = prediction.has_depth
        again = {
            published.name: prediction.depth[i]
            for i, published in enumerate(self._published.values())
            if not published.view.is_new and has_depth[i]
        }
        return corrected_poses(self._graph, self._depth_scales, again, placed.depth_scale)

    def _source(self, prediction: Prediction, known: KnownCameras | None) -> ScaleSource:
        """Where the metres of a prediction come from, taken by itself."""
        choice = self._options.scale_source
        if choice in ("depth", "height"):
            return choice if prediction.is_metric else "none"
        if known is not None and known.metres_per_unit is not None:
            return "poses"
        if choice in ("auto", "model"):
            return "model" if prediction.is_metric else "none"
        return "fixed" if choice == "fixed" else "none"

    def _intrinsics(self, frames: Sequence[Frame], prediction: Prediction) -> list[_Intrinsics]:
        """Of the processed images: given ones carried over, else estimated ones smoothed over the session, else assumed
        ones."""
        estimated = None if prediction.intrinsics is None else prediction.intrinsics.astype(np.float64)
        if estimated is not None:
            # Relative to the image's sides, so that a change of the processed size does not matter.
            sides = np.array(prediction.depth.shape[:0:-1], np.float64)
            self._focal_lengths.append(np.median(estimated[:, [0, 1], [0, 1]], axis=0) / sides)
            estimated[:, [0, 1], [0, 1]] = np.median(np.stack(self._focal_lengths), axis=0) * sides

        result: list[_Intrinsics] = []
        for i, frame in enumerate(frames):
            if frame.intrinsics is not None and prediction.processed_from_original is not None:
                result.append((prediction.processed_from_original[i] @ frame.intrinsics, "known"))
            elif estimated is not None:
                result.append((estimated[i], "estimated"))
            elif prediction.assumed_intrinsics is not None:
                result.append((prediction.assumed_intrinsics[i].astype(np.float64), "assumed"))
            else:
                result.append((None, None))
        return result


def _check(frames: Sequence[Frame]) -> None:
    if not frames:
        raise InputError("The window is empty; give at least one frame.")
    sizes = sorted({f"{frame.image.shape[1]}x{frame.image.shape[0]}" for frame in frames})
    if len(sizes) > 1:
        raise InputError(f"The window mixes images of {' and '.join(sizes)} pixels; give frames of one size.")


def _view(
    frame: Frame,
    name: FrameName,
    is_new: bool,
    prediction: Prediction,
    i: int,
    intrinsics: _Intrinsics,
    placed: _Placed,
) -> View:
    world_to_camera = None
    if placed.placement != "unposed" and prediction.extrinsics is not None and prediction.placed[i]:
        camera_to_window = invert_rigid(prediction.extrinsics[i])
        world_to_camera = invert_rigid(placed.window_to_map.transform_camera(camera_to_window))
    return View(
        frame=frame,
        number=name.number,
        is_new=is_new,
        image=frame.image if prediction.processed_images is None else _alone(prediction.processed_images, i),
        depth=prediction.depth[i] * np.float32(placed.depth_scale),
        confidence=None if prediction.conf is None else _alone(prediction.conf, i),
        sky=None if prediction.sky is None else _alone(prediction.sky, i),
        intrinsics=intrinsics[0],
        intrinsics_source=intrinsics[1],
        world_to_camera=world_to_camera,
        processed_from_original=None
        if prediction.processed_from_original is None
        else prediction.processed_from_original[i],
    )


def _alone(of_window: np.ndarray, i: int) -> np.ndarray:
    """What belongs to one view; a copy where a slice would keep the arrays of a whole window alive."""
    return np.asarray(of_window[i] if len(of_window) == 1 else of_window[i].copy())


def _newest(names: Sequence[FrameName], published: Collection[_Published]) -> FrameName:
    """Of the frames of a window the last one that has been published."""
    before = {each.name for each in published}
    return [name for name in names if name in before][-1]
