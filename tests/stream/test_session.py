# SPDX-License-Identifier: Apache-2.0
"""A session over an exact room: every inference comes in a random Sim(3), and the map must come out straight."""

import gc
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame, RigPlace
from da3_core.stream.inference import Decoded
from da3_core.stream.record import SessionRecord
from da3_core.stream.scale_filter import LARGEST_STEP
from da3_core.stream.session import Session, SessionOptions, WindowResult

HEIGHT, WIDTH = 36, 48
K = np.array([[40.0, 0, 24], [0, 40.0, 18], [0, 0, 1]])
HALF_ROOM = np.array([3.0, 2.0, 5.0])  # m
OPTIONS = SessionOptions(scale_source="auto", fixed_m_per_unit=1.0)


def true_depth(camera_to_room: np.ndarray) -> np.ndarray:
    """z-depth of the walls of a box seen from inside."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ camera_to_room[:3, :3].T
    distances = (np.sign(rays) * HALF_ROOM - camera_to_room[:3, 3]) / rays
    return distances.min(axis=-1)


class ExactModel:
    """True depth and cameras of a path through the room, each call under its own Sim(3); frames are known by stamp."""

    def __init__(
        self,
        path: np.ndarray,
        noise: float = 0.0,
        outliers: float = 0.0,
        is_metric: bool = False,
        blind_calls: Sequence[int] = (),
    ) -> None:
        self.path, self.noise, self.outliers, self.blind_calls = path, noise, outliers, blind_calls
        self.is_metric, self.calls, self.random = is_metric, 0, np.random.default_rng(7)
        self.focal_error = 0.0
        self.decoded: list[Decoded] = []

    def __call__(self, frames: Sequence[Frame], decoded: Decoded = None) -> Prediction:
        random = self.random
        self.decoded.append(decoded)
        self.calls += 1
        scale = 1.0 if self.is_metric else random.uniform(0.3, 3)
        cameras = self.path[[frame.stamp_ns for frame in frames]]
        depth = np.stack([true_depth(camera) for camera in cameras])
        if self.calls - 1 in self.blind_calls:
            depth = random.uniform(0.1, 20, depth.shape)
            cameras = np.stack([rigid(random.normal(size=3), random.normal(size=3)) for _ in cameras])
        depth *= scale * (1 + self.noise * random.normal(size=depth.shape))
        depth[random.random(depth.shape) < self.outliers] *= 3
        world = rigid(random.normal(size=3), random.uniform(-5, 5, 3))
        to_camera = invert_rigid(np.concatenate([world @ scaled(c, scale) for c in cameras]).reshape(-1, 4, 4))
        if decoded is not None:
            depth[np.setdiff1d(np.arange(len(depth)), decoded)] = np.nan
        intrinsics = np.tile(K, (len(frames), 1, 1))
        intrinsics[:, [0, 1], [0, 1]] *= 1 + self.focal_error * random.normal()
        return Prediction(
            depth=depth.astype(np.float32),
            is_metric=int(self.is_metric),
            conf=random.uniform(2, 8, depth.shape).astype(np.float32),
            extrinsics=to_camera.astype(np.float32),
            intrinsics=intrinsics.astype(np.float32),
            processed_images=np.stack([frame.image for frame in frames]),
            processed_from_original=np.tile(np.eye(3), (len(frames), 1, 1)),
        )


def rigid(rotation_vector: np.ndarray, position: np.ndarray) -> np.ndarray:
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = Rotation.from_rotvec(rotation_vector).as_matrix(), position
    return camera


def scaled(camera_to_room: np.ndarray, scale: float) -> np.ndarray:
    result = camera_to_room.copy()
    result[:3, 3] *= scale
    return result


def walk(count: int, moves: str = "curve") -> np.ndarray:
    """(count, 4, 4) camera-to-room."""
    t = np.linspace(0, 1, count)
    rotation = np.stack([0.2 * np.sin(5 * t), 1.5 * np.sin(4 * t), 0.1 * t], -1)
    position = np.stack([2 * np.sin(3 * t), 0.5 * np.sin(9 * t), 3 * np.cos(3 * t) - 1], -1)
    if moves in ("line", "static"):
        rotation = np.zeros((count, 3))
        position = np.array([0.3, 0.1, -2]) + np.outer(t if moves == "line" else 0 * t, [0, 0, 3.0])
    if moves == "rotation":
        position = np.tile([0.5, 0.2, -1.0], (count, 1))
    return np.stack([rigid(r, p) for r, p in zip(rotation, position, strict=True)])


def make_frames(count: int) -> list[Frame]:
    return [Frame(np.full((HEIGHT, WIDTH, 3), i % 255, np.uint8), stamp_ns=i) for i in range(count)]


def stream(session: Session, count: int, size: int = 4, stride: int = 1) -> list[WindowResult]:
    frames = make_frames(count)
    ends = range(min(size, count), count + 1, stride)
    return [session.process(frames[max(0, end - size) : end]) for end in ends]


def published(results: Sequence[WindowResult]) -> tuple[np.ndarray, np.ndarray]:
    """Camera-to-map and depth of every view that is new, in the order of publication."""
    views = [view for result in results for view in result.views if view.is_new]
    assert [view.frame.stamp_ns for view in views] == list(range(len(views))), "each frame is new exactly once"
    return invert_rigid(np.stack([view.world_to_camera for view in views])), np.stack([view.depth for view in views])


def relative_errors(results: Sequence[WindowResult], path: np.ndarray) -> tuple[float, float, float]:
    """Largest errors of position and depth, relative to the median depth, and of rotation in rad, with the truth
    moved to the first camera and to the unit of the map."""
    cameras, depth = published(results)
    truth = np.linalg.inv(path[0]) @ path[: len(cameras)]
    true_depths = np.stack([true_depth(camera) for camera in path[: len(cameras)]])
    unit = np.median(depth[0]) / np.median(true_depths[0])
    reference = unit * np.median(true_depths)
    position = np.linalg.norm(cameras[:, :3, 3] - unit * truth[:, :3, 3], axis=-1).max() / reference
    rotation = Rotation.from_matrix(cameras[:, :3, :3]) * Rotation.from_matrix(truth[:, :3, :3]).inv()
    depth_error = np.median(np.abs(depth / (unit * true_depths) - 1), axis=(1, 2)).max()
    return position, depth_error, rotation.magnitude().max()


@pytest.mark.parametrize("moves", ["curve", "line", "static", "rotation"])
@pytest.mark.parametrize(("size", "stride"), [(2, 1), (4, 1), (6, 3)])
def test_windows_in_random_worlds_join_into_one_exact_map(moves: str, size: int, stride: int) -> None:
    path = walk(size + 50 * stride, moves)
    results = stream(Session(ExactModel(path), OPTIONS), len(path), size, stride)
    assert len(results) == 51
    assert {result.placement for result in results[1:]} == {"points"}
    assert max(relative_errors(results, path)) < 1e-4
    assert results[-1].segment == 0


@pytest.mark.parametrize("moves", ["curve", "rotation"])
def test_some_of_the_shared_views_place_a_window(moves: str) -> None:
    path = walk(30, moves)
    model = ExactModel(path)
    results = stream(Session(model, replace(OPTIONS, alignment_views=2)), len(path), size=8)
    assert model.decoded == [None] + [(0, 6, 7)] * 22
    assert {result.placement for result in results[1:]} == {"points"}
    assert max(relative_errors(results, path)) < 1e-4
    again = [{pose.number for pose in result.corrected if pose.said_again is not None} for result in results[1:]]
    assert again == [{start, start + 6} for start in range(1, 23)]


def test_a_lost_map_goes_on_from_the_views_that_have_depth() -> None:
    path = walk(30)
    model = ExactModel(path, blind_calls=[10])
    results = stream(Session(model, replace(OPTIONS, alignment_views=3)), len(path), size=8)
    assert [result.segment for result in results] == [0] * 10 + [1] + [2] * 12
    assert np.isfinite(published(results)[1]).all()
    record = SessionRecord(100, "present_map")
    for result in results[:11]:
        record.add(result, 0)
    assert [record.prediction(scope).stamps_ns.tolist() for scope in ("window", "session")] == 2 * [[10, 13, 16, 17]]
    assert model.decoded[10:13] == [(0, 3, 6, 7), (2, 5, 6, 7), (1, 4, 6, 7)]
    cameras = invert_rigid(np.stack([result.views[-1].world_to_camera for result in results[11:]]))
    steps, true_steps = (np.linalg.norm(np.diff(c[:, :3, 3], axis=0), axis=-1) for c in (cameras, path[18:]))
    np.testing.assert_allclose(steps / steps[0], true_steps / true_steps[0], rtol=1e-3)


def test_noise_and_outliers_cost_less_than_one_per_cent() -> None:
    path = walk(54)
    results = stream(Session(ExactModel(path, noise=0.02, outliers=0.05), OPTIONS), len(path))
    cameras, _ = published(results)
    truth = np.linalg.inv(path[0]) @ path
    # The unit of a noisy map is the best one, not that of its first pixels.
    unit = np.sum(cameras[:, :3, 3] * truth[:, :3, 3]) / np.sum(truth[:, :3, 3] ** 2)
    length = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=-1).sum()
    assert np.linalg.norm(cameras[:, :3, 3] / unit - truth[:, :3, 3], axis=-1).max() < 0.01 * length
    assert 0.01 < np.median([result.alignment_residual for result in results[1:]]) < 0.05


def test_where_points_are_too_noisy_the_cameras_join_the_windows() -> None:
    path = walk(30)
    results = stream(Session(ExactModel(path, noise=0.2), OPTIONS), len(path))
    placements = [result.placement for result in results[1:]]
    assert placements.count("poses") > len(placements) / 2
    assert "last_view" not in placements
    assert min(result.alignment_residual for result in results[1:]) > 0.1
    cameras, _ = published(results)
    truth = np.linalg.inv(path[0]) @ path
    unit = np.sum(cameras[:, :3, 3] * truth[:, :3, 3]) / np.sum(truth[:, :3, 3] ** 2)
    length = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=-1).sum()
    assert np.linalg.norm(cameras[:, :3, 3] / unit - truth[:, :3, 3], axis=-1).max() < 0.05 * length


@pytest.mark.parametrize("count", [1, 4, 5])
def test_short_sequences(count: int) -> None:
    results = stream(Session(ExactModel(walk(8)), OPTIONS), count)
    assert len(results) == max(1, count - 3)
    assert sum(view.is_new for result in results for view in result.views) == count
    first = results[0].views[0].world_to_camera
    if count == 1:
        assert first is None
        assert results[0].placement == "unposed"
    else:
        np.testing.assert_allclose(first, np.eye(4), atol=1e-6)


def test_shared_views_keep_what_was_said_about_them() -> None:
    results = stream(Session(ExactModel(walk(8), noise=0.02), OPTIONS), 6)
    for before, after in pairwise(results):
        for old, repeated in zip(before.views[1:], after.views[:-1], strict=True):
            assert not repeated.is_new
            assert repeated.depth is old.depth
            assert repeated.world_to_camera is old.world_to_camera
        assert after.views[-1].is_new


def without_poses(prediction: Prediction, lost: Sequence[int], segments: Sequence[int] | None = None) -> Prediction:
    """As of an inference that could not place some of its views."""
    numbers = np.zeros(len(prediction.depth), int) if segments is None else np.array(segments)
    numbers[list(lost)] = -1
    assert prediction.extrinsics is not None
    extrinsics = np.where((numbers < 0)[:, None, None], np.float32(np.nan), prediction.extrinsics)
    return replace(prediction, segments=numbers, extrinsics=extrinsics)


def test_a_frame_that_cannot_be_placed_takes_no_pose_from_the_others() -> None:
    path, grey = walk(16), 7
    model = ExactModel(path)

    def infer(frames: Sequence[Frame]) -> Prediction:
        return without_poses(model(frames), [i for i, frame in enumerate(frames) if frame.stamp_ns == grey])

    results = stream(Session(infer, OPTIONS), len(path), size=4, stride=2)
    views = {view.frame.stamp_ns: view for result in results for view in result.views if view.is_new}
    assert {stamp for stamp, view in views.items() if view.world_to_camera is None} == {grey}
    assert {result.segment for result in results} == {0}
    placed = [stamp for stamp in range(len(path)) if stamp != grey]
    cameras = invert_rigid(np.stack([views[stamp].world_to_camera for stamp in placed]))
    truth = invert_rigid(path[0]) @ path[placed]
    unit = np.linalg.norm(cameras[-1, :3, 3]) / np.linalg.norm(truth[-1, :3, 3])
    np.testing.assert_allclose(cameras[:, :3, 3] / unit, truth[:, :3, 3], atol=1e-3)
    np.testing.assert_allclose(views[5].depth / unit, true_depth(path[5]), rtol=1e-3)


def test_a_frame_that_only_the_next_window_can_place_has_its_place_then() -> None:
    path = walk(8)
    model = ExactModel(path)

    def infer(frames: Sequence[Frame]) -> Prediction:
        prediction = model(frames)
        return without_poses(prediction, [3]) if model.calls == 1 else prediction

    first, second = stream(Session(infer, OPTIONS), 6, size=4, stride=2)
    assert first.views[3].world_to_camera is None
    assert (second.views[1].frame, second.views[1].is_new) == (first.views[3].frame, False)
    assert second.views[1].world_to_camera is not None
    record = SessionRecord(100)
    record.add(first, 0)
    assert record.unplaced == (1, ("3.png",))
    record.add(second, 0)
    assert record.unplaced == (0, ())
    assert sorted(record.prediction().stamps_ns.tolist()) == list(range(6))


def test_of_an_inference_of_two_maps_the_one_that_is_known_goes_on() -> None:
    path = walk(8)
    model = ExactModel(path)

    def infer(frames: Sequence[Frame]) -> Prediction:
        prediction = model(frames)
        return without_poses(prediction, [], [1, 1, 0, 0]) if model.calls == 2 else prediction

    first, second = stream(Session(infer, OPTIONS), 6, size=4, stride=2)
    assert second.segment == first.segment
    assert [view.world_to_camera is None for view in second.views] == [False, False, True, True]


def test_a_window_that_agrees_with_nothing_starts_a_segment_at_the_last_known_camera() -> None:
    path = walk(30)
    results = stream(Session(ExactModel(path, blind_calls=[10]), OPTIONS), len(path))
    assert [result.segment for result in results] == [0] * 10 + [1] + [2] * 16
    assert results[10].placement == "last_view"
    assert results[10].alignment_residual > 0.1
    anchor = results[9].views[-1]
    kept = next(view for view in results[10].views if view.frame is anchor.frame)
    np.testing.assert_allclose(kept.world_to_camera, anchor.world_to_camera, atol=1e-6)
    assert not kept.is_new
    # From there on the map is exact again, up to the unit and place that the lost window left it with.
    cameras = invert_rigid(np.stack([result.views[-1].world_to_camera for result in results[11:]]))
    truth = path[14:]
    steps, true_steps = (np.linalg.norm(np.diff(c[:, :3, 3], axis=0), axis=-1) for c in (cameras, truth))
    np.testing.assert_allclose(steps / steps[0], true_steps / true_steps[0], rtol=1e-3)


def test_windows_without_common_frames_do_not_share_a_map() -> None:
    frames = make_frames(8)
    session = Session(ExactModel(walk(8)), OPTIONS)
    assert session.process(frames[:4]).segment == 0
    apart = session.process(frames[4:])
    assert (apart.segment, apart.placement) == (1, "origin")
    session.reset()
    again = session.process(frames[4:])
    assert (again.segment, again.placement) == (0, "origin")
    assert all(view.is_new for view in again.views)


@pytest.mark.parametrize(
    ("source", "is_metric", "expected_source", "unit_m"),
    [
        ("auto", True, "model", 1.0),
        ("none", True, "none", 1.0),
        ("fixed", True, "fixed", 2.5),
        ("model", False, "none", 0),
    ],
)
def test_scale_says_where_it_comes_from(source: str, is_metric: bool, expected_source: str, unit_m: float) -> None:
    path = walk(8)
    session = Session(ExactModel(path, is_metric=is_metric), SessionOptions(source, fixed_m_per_unit=2.5))
    results = stream(session, len(path))
    assert {result.scale_source for result in results} == {expected_source}
    if unit_m:
        cameras, depth = published(results)
        np.testing.assert_allclose([result.scale_m_per_unit for result in results], unit_m, rtol=1e-5)
        np.testing.assert_allclose(depth[-1], unit_m * true_depth(path[7]), rtol=1e-4)
        np.testing.assert_allclose(
            cameras[-1, :3, 3], unit_m * (np.linalg.inv(path[0]) @ path[7])[:3, 3], atol=1e-4 * unit_m
        )


@pytest.mark.parametrize("of_views", [0.0, 0.02])
def test_metres_of_a_model_that_errs_by_window_converge_and_move_in_small_steps(of_views: float) -> None:
    path = walk(114)
    exact, random = ExactModel(path, is_metric=True), np.random.default_rng(0)

    def infer(frames: Sequence[Frame]) -> Prediction:
        prediction = exact(frames)
        assert prediction.extrinsics is not None
        wrong = 0.9 if exact.calls == 1 else np.exp(0.05 * random.normal()) * (2 if exact.calls in (30, 60) else 1)
        cameras = np.stack([scaled(camera, wrong) for camera in prediction.extrinsics])
        wrongs = wrong * np.exp(of_views * random.normal(size=(len(cameras), 1, 1)))
        return replace(prediction, depth=prediction.depth * wrongs.astype(np.float32), extrinsics=cameras)

    results = stream(Session(infer, OPTIONS), len(path))
    log_scale = np.array(
        [np.log(np.median(result.views[-1].depth / true_depth(path[i + 3]))) for i, result in enumerate(results)]
    )
    assert log_scale[0] == pytest.approx(np.log(0.9), abs=1e-3 + 2 * of_views)
    assert abs(log_scale[-20:].mean()) < 0.01
    assert abs(np.diff(log_scale)).max() < LARGEST_STEP + 1e-3 + 2 * of_views
    assert np.isfinite([result.scale_deviation for result in results]).all()
    assert results[-1].scale_deviation < 0.01 < results[0].scale_deviation
    centres, _ = published(results)
    steps = [np.linalg.norm(np.diff(each[-30:, :3, 3], axis=0), axis=1).sum() for each in (centres, path)]
    assert steps[0] == pytest.approx(steps[1], rel=0.03), "cameras move in the metres of depth"


def test_focal_length_settles_on_the_median_and_given_intrinsics_win() -> None:
    model = ExactModel(walk(60))
    model.focal_error = 0.1
    results = stream(Session(model, OPTIONS), 60)
    focal = np.array([result.views[-1].intrinsics[0, 0] for result in results])
    assert np.abs(focal[30:] / 40 - 1).max() < 0.03 < np.abs(focal[:5] / 40 - 1).max()
    given = [Frame(f.image, f.stamp_ns, intrinsics=np.diag([1.1, 1.1, 1]) @ K) for f in make_frames(4)]
    np.testing.assert_allclose(Session(model, OPTIONS).process(given).views[2].intrinsics, given[2].intrinsics)


def test_sky_takes_no_part_in_the_alignment() -> None:
    path = walk(12)
    exact = ExactModel(path)

    def with_sky(frames: Sequence[Frame]) -> Prediction:
        prediction = exact(frames)
        sky = np.zeros(prediction.depth.shape, bool)
        sky[:, : HEIGHT // 2] = True
        prediction.depth[sky] = 77.0  # never moves with the rest
        return Prediction(**{**vars(prediction), "sky": sky})

    cameras, _ = published(stream(Session(with_sky, OPTIONS), len(path)))
    truth = np.linalg.inv(path[0]) @ path
    ratio = np.linalg.norm(cameras[1:, :3, 3], axis=-1) / np.linalg.norm(truth[1:, :3, 3], axis=-1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_bad_windows_are_refused_and_a_failing_model_leaves_the_session_as_it_was() -> None:
    frames = make_frames(6)
    model = ExactModel(walk(6))
    session = Session(model, OPTIONS)
    first = session.process(frames[:4])
    with pytest.raises(InputError, match="at least one frame"):
        session.process([])
    with pytest.raises(InputError, match="48x36 and 8x8"):
        session.process([frames[0], Frame(np.zeros((8, 8, 3), np.uint8))])
    model.path = model.path[:1]
    with pytest.raises(IndexError):
        session.process(frames[1:5])
    model.path = walk(6)
    after = session.process(frames[2:6])
    assert (after.placement, after.segment) == ("points", first.segment)


def test_memory_does_not_grow_with_the_session() -> None:
    path = walk(1)
    session = Session(ExactModel(np.repeat(path, 2000, axis=0)), OPTIONS)
    window: list[Frame] = []
    sizes = []
    tracemalloc.start()
    for i in range(151):
        window = [*window[-3:], Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), stamp_ns=i)]
        session.process(window)
        if i in (50, 150):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100_000, "five views of a hundred; the focal lengths may still fill their window"


FAR_AWAY = rigid(np.array([0.3, -0.8, 1.1]), np.array([400_000.0, -7.0, 2.0]))  # m, as in national grids


def posed(path: np.ndarray, unknown: Sequence[int] = ()) -> list[Frame]:
    """Frames that say where they were taken, in a world of their own."""
    return [
        replace(frame, world_to_camera=None if frame.stamp_ns in unknown else invert_rigid(FAR_AWAY @ camera))
        for frame, camera in zip(make_frames(len(path)), path, strict=True)
    ]


def windows_of(session: Session, frames: Sequence[Frame], size: int = 4) -> list[WindowResult]:
    return [session.process(frames[end - size : end]) for end in range(size, len(frames) + 1)]


def assert_metres(result: WindowResult, path: np.ndarray) -> None:
    for view in result.views:
        np.testing.assert_allclose(view.depth, true_depth(path[view.frame.stamp_ns]), rtol=1e-4)
    assert result.scale_source == "poses"


@pytest.mark.parametrize("moves", ["curve", "line"])
def test_known_poses_are_the_map_and_give_its_metres(moves: str) -> None:
    path = walk(12, moves)
    frames = posed(path)
    model = ExactModel(path)
    results = windows_of(Session(model, OPTIONS), frames)
    for result in results:
        assert (result.placement, result.segment) == ("known", 0)
        assert_metres(result, path)
        for view in result.views:
            np.testing.assert_allclose(view.world_to_camera, view.frame.world_to_camera, rtol=1e-12)
    assert np.isnan(results[0].alignment_residual)
    assert max(result.alignment_residual for result in results[1:]) < 1e-4
    assert np.ptp([result.scale_m_per_unit for result in results]) > 0.1  # every window has its own unit


def test_frames_without_a_pose_join_the_map_of_those_with_one() -> None:
    path = walk(14)
    results = windows_of(Session(ExactModel(path), OPTIONS), posed(path, unknown=[6]))
    assert [result.placement for result in results] == ["known"] * 3 + ["points"] * 4 + ["known"] * 4
    assert {result.segment for result in results} == {0}
    for result in results:
        assert_metres(result, path)
        cameras = invert_rigid(np.stack([view.world_to_camera for view in result.views]))
        truth = (FAR_AWAY @ path)[[view.frame.stamp_ns for view in result.views]]
        np.testing.assert_allclose(cameras, truth, atol=0.02)  # rounding of rotations in float32, 400 km away


def test_who_stands_still_keeps_the_metres_of_before_and_has_none_at_the_start() -> None:
    line = walk(12, "line")
    path = np.concatenate([np.repeat(line[:1], 5, axis=0), line, np.repeat(line[-1:], 5, axis=0)])
    results = windows_of(Session(ExactModel(path), OPTIONS), posed(path))
    still = [np.ptp(path[[view.frame.stamp_ns for view in result.views]], axis=0).max() == 0 for result in results]
    first_moving = still.index(False)
    assert {result.scale_source for result in results[:first_moving]} == {"none"}
    assert [result.segment for result in results] == [0] * first_moving + [1] * (len(results) - first_moving)
    assert sum(still[first_moving:]) >= 2
    for result in results[first_moving:]:
        assert_metres(result, path)


def test_rig_gives_metres_and_stays_rigid() -> None:
    left = walk(10)
    right_in_left = rigid(np.array([0.0, 0.1, 0.02]), np.array([0.3, 0.01, 0]))
    path = np.stack([left, left @ right_in_left], axis=1).reshape(-1, 4, 4)
    places = [RigPlace(np.eye(4), 0), RigPlace(right_in_left, 0)]
    frames = [
        replace(frame, rig=replace(places[i % 2], frame_set_ns=i // 2))
        for i, frame in enumerate(make_frames(len(path)))
    ]
    session = Session(ExactModel(path), OPTIONS)
    results = [session.process(frames[end - 6 : end]) for end in range(6, len(path) + 1, 2)]
    assert [result.placement for result in results] == ["origin"] + ["points"] * (len(results) - 1)
    for result in results:
        assert_metres(result, path)
        cameras = invert_rigid(np.stack([view.world_to_camera for view in result.views]))
        np.testing.assert_allclose(invert_rigid(cameras[::2]) @ cameras[1::2], [right_in_left] * 3, atol=1e-6)


def test_known_poses_are_not_heeded_where_another_scale_is_chosen() -> None:
    path = walk(8)
    session = Session(ExactModel(path, is_metric=True), SessionOptions("model", 1.0))
    results = windows_of(session, posed(path))
    assert {(result.placement, result.scale_source) for result in results} == {("origin", "model"), ("points", "model")}


def test_masked_pixels_have_no_say_and_no_depth() -> None:
    """The robot's own body stays where it is in every image, and is most of it."""
    path, body = walk(20), np.zeros((HEIGHT, WIDTH), bool)
    body[14:] = True
    exact = ExactModel(path)

    def with_body(frames: Sequence[Frame]) -> Prediction:
        prediction = exact(frames)
        return replace(prediction, depth=np.where(body, np.median(prediction.depth) / 10, prediction.depth))

    def errors(mask: np.ndarray | None) -> tuple[float, float, list[WindowResult]]:
        frames = [replace(frame, mask=mask) for frame in make_frames(len(path))]
        session = Session(with_body, OPTIONS)
        results = [session.process(frames[i : i + 4]) for i in range(len(path) - 3)]
        cameras, depth = published(results)
        truth = np.linalg.inv(path[0]) @ path
        unit = np.median(depth[0][~body] / true_depth(path[0])[~body])
        shown = np.stack([true_depth(camera) for camera in path])[:, ~body]
        away = np.linalg.norm(cameras[:, :3, 3] - unit * truth[:, :3, 3], axis=-1).max() / unit
        return away, np.abs(depth[:, ~body] / (unit * shown) - 1).max(), results

    away_m, wrong, results = errors(body)
    assert away_m < 1e-3
    assert wrong < 1e-3
    for view in results[-1].views:
        np.testing.assert_array_equal(np.isnan(view.depth), body)
    assert errors(None)[1] > 1e-2, "it disturbs who does not know of it"
