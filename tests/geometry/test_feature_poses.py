# SPDX-License-Identifier: Apache-2.0
"""Poses from matching features: against true cameras with true and with wrong depth, and what is refused."""

import logging
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from feature_poses import Softness, compare, soft_depth
from scipy.spatial.transform import Rotation

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.feature_poses import FeaturePoses, default_intrinsics, poses_from_features
from da3_core.geometry.matching import choose_pairs
from da3_core.geometry.pose_refinement import Cameras, DirectedMatches, Noise, refine
from da3_core.postprocessing import with_feature_poses
from da3_core.prediction import Prediction
from da3_core.stream.joined_windows import join_windows
from da3_core.synthetic import Walk


def solve(walk: Walk, frames: list[int], depth: np.ndarray | None = None) -> FeaturePoses:
    """Of frames of the walk with their true depth, or another one."""
    depth = walk.depth_m[frames] if depth is None else depth
    return poses_from_features(walk.images[frames], depth, np.tile(walk.intrinsics, (len(frames), 1, 1)))


def errors_deg(walk: Walk, frames: list[int], found: FeaturePoses) -> tuple[np.ndarray, np.ndarray]:
    """Of the rotation and of the direction between all pairs of views."""
    assert found.world_to_camera is not None, found.failure
    true = invert_rigid(walk.camera_to_world[frames])
    rotations, directions = [], []
    for i, j in choose_pairs(len(frames)):
        estimate, truth = (cameras[j] @ invert_rigid(cameras[i]) for cameras in (found.world_to_camera, true))
        rotations.append(Rotation.from_matrix(estimate[:3, :3].T @ truth[:3, :3]).magnitude())
        u, v = estimate[:3, 3], truth[:3, 3]
        directions.append(np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1)))
    return np.rad2deg(rotations), np.rad2deg(directions)


def share_too_few(found: FeaturePoses, views: str) -> bool:
    return found.world_to_camera is None and found.failure.startswith(f"{views} too few features")


# What comes out


def test_true_depth_gives_true_poses(walk: Walk) -> None:
    rotations, directions, lengths = [], [], []
    for frames in ([0, 1], [4, 6], [8, 9], [12, 14], [17, 18], [20, 23]):
        found = solve(walk, frames)
        rotation, direction = errors_deg(walk, frames, found)
        rotations.append(rotation)
        directions.append(direction)
        moved, true = found.world_to_camera[1], np.diff(walk.camera_to_world[frames, :3, 3], axis=0)
        lengths.append(np.linalg.norm(moved[:3, 3]) / np.linalg.norm(true))
        assert np.array_equal(found.world_to_camera[0], np.eye(4))
        np.testing.assert_allclose(found.depth_scales, 1, atol=5e-3)
        assert found.inliers.min() > 50
        assert found.residual_px < 0.5
    assert np.median(rotations) < 0.1
    assert np.max(rotations) < 0.3
    assert np.median(directions) < 0.5
    assert np.max(directions) < 1.5
    np.testing.assert_allclose(lengths, 1, atol=0.01)


def test_soft_depth_in_unknown_units_still_gives_a_common_world(walk: Walk) -> None:
    frames = [3, 4, 5, 6]
    depth = soft_depth(walk.depth_m[frames], "soft", seed=0)
    scales = np.exp(np.log(depth / walk.depth_m[frames]).mean((1, 2)))
    found = solve(walk, frames, depth)
    rotations, directions = errors_deg(walk, frames, found)
    assert rotations.max() < 0.3
    assert directions.max() < 2
    np.testing.assert_allclose(np.prod(found.depth_scales), 1)
    common = found.depth_scales * scales
    np.testing.assert_allclose(common / common[0], 1, atol=0.15)
    assert 0.05 < found.depth_noise < 0.25


@pytest.mark.parametrize("softness", ["soft", "soft alike"])
def test_stated_deviations_hold_though_depth_is_wrong(walk: Walk, softness: Softness) -> None:
    """A short version of `benchmarks/feature_poses.py`."""
    pairs = [(0, 1), (4, 5), (8, 9), (13, 14), (18, 19), (21, 22), (9, 11), (18, 20)]
    measured = compare(walk, pairs, softness, seed=500)
    assert len(measured.stated_deg) == len(pairs)
    assert measured.within >= 0.5
    assert np.median(measured.rotation_deg) > 0.2 * np.median(measured.stated_deg), "nor are they overstated"
    assert (measured.rotation_deg < 3 * measured.stated_deg).mean() > 0.8
    assert np.median(measured.direction_deg) < 1


def test_small_depth_takes_nothing_from_large_images(walk: Walk) -> None:
    pairs = [(2, 4), (8, 10), (20, 23)]
    small, full = (compare(walk, pairs, "soft", seed=900, full=full, size=(84, 112)) for full in (False, True))
    assert full.area > small.area + 0.2


@pytest.mark.parametrize("longer_side", [224, 336, 504])
def test_views_are_placed_at_every_size_with_an_assumed_camera(walk: Walk, longer_side: int) -> None:
    size = (longer_side, longer_side * 3 // 4)
    images = np.stack([cv2.resize(walk.images[frame], size) for frame in (2, 3)])
    depth = np.stack([cv2.resize(walk.depth_m[frame], size) for frame in (2, 3)])
    guessed = default_intrinsics(*size[::-1])
    guessed[[0, 1], [0, 1]] *= 0.8
    found = poses_from_features(images, depth, np.tile(guessed, (2, 1, 1)))
    assert found.failure is None


def test_a_turning_camera_turns_and_stays(walk: Walk) -> None:
    turn = Rotation.from_euler("yxz", [12, -4, 3], degrees=True).as_matrix()
    pixels_from_pixels = walk.intrinsics @ turn @ np.linalg.inv(walk.intrinsics)  # edges at integers
    centred = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    warp = np.linalg.inv(centred) @ pixels_from_pixels @ centred
    image = cv2.warpPerspective(walk.images[0], warp, (320, 240))
    u, v = np.meshgrid(np.arange(320) + 0.5, np.arange(240) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(walk.intrinsics).T
    old_depth = cv2.warpPerspective(walk.depth_m[0], warp, (320, 240), flags=cv2.INTER_NEAREST)
    depth = (old_depth / (rays @ turn)[..., 2]).astype(np.float32)  # the ray's z was 1 in the new axes

    both = np.stack([walk.images[0], image]), np.stack([walk.depth_m[0], 2 * depth])
    found = poses_from_features(*both, np.tile(walk.intrinsics, (2, 1, 1)))
    assert found.world_to_camera is not None, found.failure
    off = Rotation.from_matrix(found.world_to_camera[1, :3, :3].T @ turn).magnitude()
    assert np.rad2deg(off) < 0.05
    assert np.linalg.norm(found.world_to_camera[1, :3, 3]) < 2e-3 * np.median(walk.depth_m[0])
    assert found.parallax_px < 0.5
    np.testing.assert_allclose(found.depth_scales, [2**0.5, 0.5**0.5], rtol=5e-3)


def test_the_same_image_twice_is_the_same_camera(walk: Walk) -> None:
    found = solve(walk, [0, 0])
    np.testing.assert_allclose(found.world_to_camera, np.tile(np.eye(4), (2, 1, 1)), atol=1e-6)
    assert found.parallax_px < 1e-3


def test_the_answer_does_not_depend_on_random_numbers(walk: Walk) -> None:
    first, second = [], []
    for answers, seed in ((first, 1), (second, 2)):
        cv2.setRNGSeed(seed)
        np.random.seed(seed)  # noqa: NPY002  (the global generator is what must not matter)
        answers.append(solve(walk, [4, 6]).world_to_camera)
    np.testing.assert_array_equal(first, second)


# What is refused


@pytest.mark.parametrize("case", ["blank", "opposite", "mirrored", "without depth", "noise"])
def test_views_of_different_things_get_no_pose(walk: Walk, case: str) -> None:
    images, depth = walk.images[[0, 1]].copy(), walk.depth_m[[0, 1]].copy()
    if case == "blank":
        images[1] = 128
    elif case == "opposite":
        images[1], depth[1] = walk.images[12], walk.depth_m[12]
    elif case == "mirrored":  # its symmetric patterns match, but only from behind
        images[1], depth[1] = images[0, :, ::-1], depth[0, :, ::-1]
    elif case == "without depth":
        depth[1] = np.nan
    else:
        images[1] = np.random.default_rng(0).integers(0, 256, images[1].shape)
    found = poses_from_features(images, depth, np.tile(walk.intrinsics, (2, 1, 1)))
    assert share_too_few(found, "the two views share")
    assert found.depth_scales is None


def test_the_sentence_tells_what_was_found_and_what_is_asked(walk: Walk) -> None:
    few = solve(walk, [0, 6]).failure
    assert re.search(r"\(\d+ features match, at least 20 must\); give views that overlap more", few)
    wrong = walk.depth_m[[0, 3]] * 0 + 1
    intrinsics = np.tile(walk.intrinsics, (2, 1, 1)) * [[[1], [1], [1]], [[0.2], [2], [1]]]
    said = poses_from_features(walk.images[[0, 3]], wrong, intrinsics).failure
    agreeing, tried, needed = map(
        int, re.search(r"\((\d+) of (\d+) matches agree .* at least (\d+) must", said).groups()
    )
    assert agreeing < needed <= tried


@pytest.mark.parametrize(
    ("frames", "segments", "named"),
    [
        ([0, 12, 1], [0, -1, 0], "view 1 of 3 shares"),
        ([12, 0, 1], [-1, 0, 0], "view 0 of 3 shares"),
        ([0, 1, 12, 13, 14], [1, 1, 0, 0, 0], "views 0, 1 of 5 share"),
    ],
)
def test_views_that_cannot_be_placed_are_named_and_take_nothing_from_the_others(
    walk: Walk, frames: list[int], segments: list[int], named: str
) -> None:
    found = solve(walk, frames)
    assert found.segments.tolist() == segments
    assert share_too_few(replace(found, world_to_camera=None), named)
    for segment in set(segments):
        views = np.flatnonzero(found.segments == segment)
        if segment < 0:
            assert np.isnan(found.world_to_camera[views]).all()
            assert (found.depth_scales[views] == 1).all()
            continue
        alone = solve(walk, [frames[view] for view in views])
        np.testing.assert_allclose(found.world_to_camera[views], alone.world_to_camera, atol=1e-6)
        np.testing.assert_allclose(found.depth_scales[views], alone.depth_scales, rtol=1e-6)
        assert found.inliers[views].min() >= 20


# Its parts


@pytest.mark.parametrize(("wrong", "tolerance"), [(0, 1e-6), (12, 1e-2)])
def test_refinement_finds_the_cameras_that_made_the_matches(wrong: int, tolerance: float) -> None:
    random = np.random.default_rng(0)
    world_to_camera = np.tile(np.eye(4), (3, 1, 1))
    world_to_camera[1:, :3, :3] = Rotation.from_rotvec([[0.1, -0.2, 0.05], [-0.1, 0.3, 0.2]]).as_matrix()
    world_to_camera[1:, :3, 3] = [[0.5, 0.1, -0.2], [-0.4, 0.3, 0.6]]
    truth = Cameras(world_to_camera, np.log([1, 0.5, 3]))
    camera_matrix = np.array([[300.0, 4, 160], [0, 280, 120], [0, 0, 1]])

    pairs = []
    for source, target in ((0, 1), (1, 0), (1, 2), (2, 0)):
        points = random.uniform([-1.5, -1, 3], [1.5, 1, 6], (60, 3))
        seen = [points @ camera[:3, :3].T + camera[:3, 3] for camera in world_to_camera[[source, target]]]
        in_units = [one / np.exp(truth.log_scale[view]) for one, view in zip(seen, (source, target), strict=True)]
        pixels = (seen[1] / seen[1][:, 2:]) @ camera_matrix[:2].T
        pixels[:wrong] += random.uniform(-100, 100, (wrong, 2))
        pairs.append(DirectedMatches(source, target, in_units[0], pixels, in_units[1][:, 2], camera_matrix))

    step = np.insert(random.normal(0, 0.05, (2, 7)), 0, 0, axis=0)
    found = refine(truth.moved(step), pairs, Noise(pixel=1, depth=0.01))
    np.testing.assert_allclose(found.world_to_camera, world_to_camera, atol=tolerance)
    np.testing.assert_allclose(found.log_scale, truth.log_scale, atol=tolerance)


def test_pairs_are_all_of_few_views_and_reach_far_among_many() -> None:
    assert choose_pairs(1) == []
    assert sorted(choose_pairs(3)) == [(0, 1), (0, 2), (1, 2)]
    assert len(choose_pairs(8)) == 28
    distances = [j - i for i, j in choose_pairs(20)]
    assert {d: distances.count(d) for d in distances} == {1: 19, 2: 18, 4: 16, 8: 12, 16: 4}


# In a prediction


def without_cameras(walk: Walk, frames: list[int]) -> Prediction:
    sky = np.zeros((len(frames), *walk.size), bool)
    return Prediction(depth=walk.depth_m[frames], sky=sky, processed_images=walk.images[frames], is_metric=1)


def test_a_prediction_gets_poses_one_unit_and_assumed_intrinsics(walk: Walk) -> None:
    frames = [4, 5]
    given = replace(without_cameras(walk, frames), intrinsics=np.tile(walk.intrinsics, (2, 1, 1)))
    posed = with_feature_poses(replace(given, is_metric=0, depth=given.depth * np.float32([[[0.5]], [[2]]])))
    np.testing.assert_allclose(posed.depth, walk.depth_m[frames], rtol=5e-3)
    assert posed.extrinsics.dtype == np.float32
    assert errors_deg(walk, frames, posed.aux["feature_poses"])[0].max() < 0.3
    assert posed.is_metric == 0

    metres = replace(given, is_metric=1, depth=given.depth * np.float32([[[0.9]], [[1 / 0.9]]]))
    assert np.array_equal(with_feature_poses(metres).depth, metres.depth), "of each view what its focal length says"
    refined = with_feature_poses(metres, refine_scale=True)
    np.testing.assert_allclose(refined.depth, walk.depth_m[frames], rtol=5e-3)

    guessed = with_feature_poses(without_cameras(walk, frames))
    np.testing.assert_allclose(guessed.assumed_intrinsics[1], default_intrinsics(240, 320))
    np.testing.assert_allclose(guessed.assumed_intrinsics[0, 0, 0], 160 / np.tan(np.deg2rad(30)), rtol=1e-6)
    assert guessed.extrinsics is not None
    assert guessed.intrinsics is None, "what is assumed is not told as known"
    assert (guessed.intrinsics_source, posed.intrinsics_source) == (("assumed", "assumed"), None)


def test_a_failure_leaves_depth_as_it_was_and_no_poses(walk: Walk, caplog: pytest.LogCaptureFixture) -> None:
    given = without_cameras(walk, [4, 16])
    with caplog.at_level(logging.WARNING):
        result = with_feature_poses(replace(given, extrinsics=np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))))
    assert result.extrinsics is None
    assert result.intrinsics is None
    assert result.depth is given.depth
    assert caplog.messages == [f"no camera poses from features: {result.aux['feature_poses'].failure}"]

    all_sky = replace(without_cameras(walk, [4, 5]), sky=np.ones((2, *walk.size), bool))
    assert with_feature_poses(all_sky).extrinsics is None, "sky has no depth to place cameras by"


def test_a_window_without_poses_takes_only_those_of_its_own_views(walk: Walk) -> None:
    windows = [range(3), range(2, 5), range(4, 7)]
    posed = [with_feature_poses(without_cameras(walk, list(window))) for window in windows]
    assert all(one.extrinsics is not None for one in posed)
    assert len(join_windows(windows, posed, same_world=False).extrinsics) == 7
    for lost in range(3):
        some = [
            replace(one, extrinsics=None, assumed_intrinsics=None, intrinsics_source=None) if i == lost else one
            for i, one in enumerate(posed)
        ]
        result = join_windows(windows, some, same_world=False)
        kept = set(range(7)) - set(windows[lost])
        kept |= {view for i, window in enumerate(windows) for view in window if i != lost}
        assert np.flatnonzero(result.placed).tolist() == sorted(kept)
        assert np.isfinite(result.extrinsics[sorted(kept)]).all()
        assert np.isnan(np.delete(result.extrinsics, sorted(kept), axis=0)).all()
        assert len(result.maps) == (2 if lost == 1 else 1)
        assert len(result.depth) == len(result.processed_images) == len(result.usable_intrinsics) == 7
