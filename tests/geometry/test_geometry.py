# SPDX-License-Identifier: Apache-2.0
"""Cameras, similarities and back-projection against hand-worked numbers and the official network's own maths."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.errors import InputError
from da3_core.geometry.backprojection import backproject
from da3_core.geometry.cameras import check_extrinsics, check_intrinsics, invert_rigid, normalise_trajectory
from da3_core.geometry.quaternions import quaternion_from_rotation, rotation_from_quaternion
from da3_core.geometry.similarity import (
    DegenerateError,
    Similarity,
    align_trajectories,
    fit_similarity,
    fit_similarity_robust,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def random_cameras(count: int, seed: int = 0) -> np.ndarray:
    """`(count, 4, 4)` rigid transforms on a winding path."""
    random = np.random.default_rng(seed)
    cameras = np.tile(np.eye(4), (count, 1, 1))
    cameras[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    cameras[:, :3, 3] = np.cumsum(random.normal([0.5, 0, 0], 0.3, (count, 3)), axis=0)
    return cameras


def a_similarity(scale: float = 2.5) -> Similarity:
    return Similarity(scale, Rotation.from_euler("xyz", [0.3, -0.8, 1.2]).as_matrix(), np.array([4.0, -1.0, 0.5]))


def assert_same(found: Similarity, expected: Similarity, tolerance: float = 1e-9) -> None:
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=tolerance)
    np.testing.assert_allclose(found.translation, expected.translation, atol=10 * tolerance)


# Cameras


def test_invert_rigid() -> None:
    cameras = random_cameras(3)
    np.testing.assert_allclose(invert_rigid(cameras) @ cameras, np.tile(np.eye(4), (3, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(invert_rigid(cameras[:, :3]), np.linalg.inv(cameras), atol=1e-12)
    assert invert_rigid(cameras[0].astype(np.float32)).dtype == np.float32


def test_normalised_trajectory_is_the_official_one() -> None:
    golden = np.load(GOLDEN / "unit_align.npz")
    found = normalise_trajectory(golden["w2c"][0])
    np.testing.assert_allclose(found, golden["w2c_normalised"][0], atol=2e-6)


def test_normalised_trajectory_takes_the_lower_median_and_never_divides_by_less_than_a_tenth() -> None:
    def line(*x: float) -> np.ndarray:
        world_to_camera = np.tile(np.eye(4), (len(x), 1, 1))
        world_to_camera[:, 0, 3] = [-value for value in x]
        return world_to_camera

    assert normalise_trajectory(line(5, 6, 8, 9))[:, 0, 3].tolist() == [0, -1, -3, -4]  # median of 0 1 3 4 is 1
    np.testing.assert_allclose(normalise_trajectory(line(5, 6))[:, 0, 3], [0, -10])  # median 0: a tenth
    np.testing.assert_allclose(normalise_trajectory(line(0, 4, 2))[:, 0, 3], [0, -2, -1])


def test_quaternions() -> None:
    quarter_turn_about_z = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(quaternion_from_rotation(quarter_turn_about_z), [0, 0, 0.5**0.5, 0.5**0.5])
    half_turns = np.stack([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])])
    np.testing.assert_allclose(np.abs(quaternion_from_rotation(half_turns)), np.eye(4)[:3], atol=1e-12)
    rotations = Rotation.random(200, random_state=1)
    found = quaternion_from_rotation(rotations.as_matrix())
    np.testing.assert_allclose(found, rotations.as_quat(canonical=True), atol=1e-12)
    np.testing.assert_allclose(rotation_from_quaternion(3 * found), rotations.as_matrix(), atol=1e-12)


def test_extrinsics_are_checked() -> None:
    good = random_cameras(3)
    assert check_extrinsics(good[:, :3], 3).shape == (3, 4, 4)
    assert check_extrinsics(good.astype(np.float32), 3).dtype == np.float32
    np.testing.assert_array_equal(check_extrinsics(good.tolist(), 3), good)

    def broken(view: int, factor: np.ndarray | float) -> np.ndarray:
        bad = good.copy()
        bad[view, :3, :3] *= factor
        return bad

    mirrored = np.array([[1.0], [1.0], [-1.0]])
    for bad, message in [
        (good[:2], r"\(2, 4, 4\) for 3 images"),
        (broken(1, 1.1), "image 1 are not rigid.*camera-to-world"),
        (broken(2, mirrored), "image 2 are not rigid.*det R = -1"),
        (good.transpose(0, 2, 1), "transpose"),
        (broken(0, np.nan), "NaN"),
        ("poses.txt", "array of numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            check_extrinsics(bad, 3)


def test_intrinsics_are_checked() -> None:
    good = np.tile([[300.0, 2, 100], [0, 310, 80], [0, 0, 1]], (2, 1, 1))
    np.testing.assert_array_equal(check_intrinsics(good, 2), good)
    negative = good.copy()
    negative[1, 0, 0] = -300
    for bad, message in [
        (good[0], r"\(3, 3\) for 2 images"),
        (negative, "image 1.*positive fx"),
        (good.transpose(0, 2, 1), "image 0"),
    ]:
        with pytest.raises(InputError, match=message):
            check_intrinsics(bad, 2)


# Similarities


def test_similarity_algebra() -> None:
    a, b = a_similarity(), a_similarity(0.3)
    points = np.random.default_rng(0).normal(size=(2, 5, 3))
    np.testing.assert_allclose((a @ b).apply(points), a.apply(b.apply(points)))
    np.testing.assert_allclose(a.inverse().apply(a.apply(points)), points, atol=1e-12)
    # What a camera sees at p, the moved camera sees at scale * p.
    camera_to_world = random_cameras(1)[0]
    moved = a.transform_camera(camera_to_world)
    seen = np.array([0.2, -0.3, 2.0])
    in_world = camera_to_world[:3, :3] @ seen + camera_to_world[:3, 3]
    np.testing.assert_allclose(moved[:3, :3] @ (a.scale * seen) + moved[:3, 3], a.apply(in_world))
    np.testing.assert_allclose(moved[:3, :3].T @ moved[:3, :3], np.eye(3), atol=1e-12)


def test_fit_by_hand() -> None:
    """A unit right angle, turned a quarter about z, doubled, moved by (1, 2, 3)."""
    source = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    target = np.array([[1.0, 2, 3], [1, 4, 3], [-1, 2, 3]])
    fit = fit_similarity(source, target)
    assert_same(fit, Similarity(2, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3])))


def test_fit_never_mirrors_and_heeds_weights() -> None:
    source = np.random.default_rng(0).normal(size=(20, 3))
    assert np.linalg.det(fit_similarity(source, source * [1, 1, -1]).rotation) == pytest.approx(1)
    target = a_similarity().apply(source)
    target[3] += 100
    weights = np.ones(20)
    weights[3] = 0
    assert_same(fit_similarity(source, target, weights), a_similarity())
    for degenerate in (source[:1], source[:2], np.outer(np.arange(5), [1.0, 2, 3]), np.zeros((4, 3))):
        with pytest.raises(DegenerateError):
            fit_similarity(degenerate, a_similarity().apply(degenerate))


def test_fits_are_the_official_ones() -> None:
    golden = np.load(GOLDEN / "unit_align.npz")

    def cameras(name: str) -> np.ndarray:
        return invert_rigid(golden[name].astype(np.float64))

    for views, tolerance in ((6, 1e-6), (12, 1e-5)):
        alignment = align_trajectories(cameras(f"est{views}"), cameras(f"ref{views}"))
        expected = Similarity(float(golden[f"s{views}"]), golden[f"R{views}"], golden[f"t{views}"])
        assert_same(alignment.target_from_source, expected, tolerance)
        moved = alignment.target_from_source.transform_camera(cameras(f"est{views}"))
        np.testing.assert_allclose(invert_rigid(moved), golden[f"aligned{views}"], atol=1e-5)
    assert alignment.method == "robust"
    assert np.flatnonzero(~alignment.inliers).tolist() == [3]


@pytest.mark.parametrize("views", [10, 20, 40])
def test_three_in_ten_cameras_may_be_wrong(views: int) -> None:
    random = np.random.default_rng(views)
    source = random_cameras(views, views)
    target = a_similarity().transform_camera(source)
    wrong = random.choice(views, int(0.3 * views), replace=False)
    target[wrong, :3, 3] += random.normal(0, 20, (len(wrong), 3))
    alignment = align_trajectories(source, target)
    assert_same(alignment.target_from_source, a_similarity(), 1e-6)
    assert set(np.flatnonzero(~alignment.inliers)) == set(wrong)
    assert alignment.residual < 1e-6
    plain = fit_similarity(source[:, :3, 3], target[:, :3, 3])
    assert np.abs(plain.apply(source[:, :3, 3]) - target[:, :3, 3])[alignment.inliers].max() > 1, "outliers must matter"
    again, _ = fit_similarity_robust(source[:, :3, 3], target[:, :3, 3])
    assert again.scale == alignment.scale, "two calls agree to the last bit"


def test_noise_and_wrong_cameras_together_leave_the_scale_within_two_per_cent() -> None:
    for seed in range(30):
        random = np.random.default_rng(seed)
        source = random_cameras(20, seed)[:, :3, 3]
        size = np.ptp(source, axis=0).max()
        target = a_similarity().apply(source + random.normal(0, 0.003 * size, source.shape))
        wrong = random.choice(20, 6, replace=False)
        target[wrong] += random.normal(0, 40 * size, (6, 3))
        assert fit_similarity_robust(source, target)[0].scale == pytest.approx(2.5, rel=0.02), seed


@pytest.mark.parametrize(
    ("x", "method"),
    [
        ([0], "rotation_only"),
        ([1, 1, 1], "rotation_only"),
        ([0, 1], "scale_only"),
        ([0, 1, 2, 4], "scale_only"),
        (list(range(15)), "scale_only"),
    ],
)
def test_straight_paths_take_their_rotation_from_the_cameras(x: list[float], method: str) -> None:
    source = random_cameras(len(x), 7)
    source[:, :3, 3] = np.array([3, 2, 1]) + np.outer(x, [0.6, 0.0, 0.8])
    expected = a_similarity(2.5 if method == "scale_only" else 1.0)
    alignment = align_trajectories(source, expected.transform_camera(source))
    assert alignment.method == method
    assert_same(alignment.target_from_source, expected)
    assert alignment.residual < 1e-9


def test_a_baseline_within_the_rounding_of_float32_sets_no_scale() -> None:
    source = random_cameras(4)
    source[:, :3, 3] = [10, 20, 30]
    source[:, 0, 3] += np.array([0, 1, -1, 2]) * 1e-6
    target = random_cameras(4, 1)
    assert align_trajectories(source, target, np.finfo(np.float32).eps).method == "rotation_only"


def test_residual_is_in_units_of_the_source() -> None:
    """A unit square seen twice as large with one corner pair off: hand-worked from the fit's own errors."""
    source = np.tile(np.eye(4), (4, 1, 1))
    source[:, :2, 3] = [[0, 0], [1, 0], [1, 1], [0, 1]]
    target = source.copy()
    target[:, :3, 3] *= 2
    target[[0, 2], 2, 3] = 0.1  # two opposite corners up by 0.1, the others down: mean height 0.05, error 0.05 each
    target[[1, 3], 2, 3] = 0.0
    alignment = align_trajectories(source, target)
    assert alignment.scale == pytest.approx(2)
    assert alignment.residual == pytest.approx(0.05 / 2)


# Back-projection


def test_backprojection_by_hand() -> None:
    intrinsics = np.array([[[10.0, 0, 2], [0, 20, 1], [0, 0, 1]]])
    depth = np.full((1, 2, 4), 5, np.float32)
    points = backproject(depth, intrinsics)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[0, 0, 0], [(0.5 - 2) / 10 * 5, (0.5 - 1) / 20 * 5, 5])
    np.testing.assert_allclose(points[0, 1, 3], [(3.5 - 2) / 10 * 5, (1.5 - 1) / 20 * 5, 5])


def test_backprojection_and_projection_are_inverse() -> None:
    random = np.random.default_rng(0)
    world_to_camera = random_cameras(2)
    intrinsics = np.tile([[50.0, 3, 20], [0, 60, 11], [0, 0, 1]], (2, 1, 1))
    depth = random.uniform(1, 9, (2, 24, 32)).astype(np.float32)
    points = backproject(depth, intrinsics, world_to_camera[:, :3]).astype(np.float64)
    in_camera = np.einsum("nij,nhwj->nhwi", world_to_camera[:, :3, :3], points) + world_to_camera[:, None, None, :3, 3]
    pixels = np.einsum("nij,nhwj->nhwi", intrinsics, in_camera)
    np.testing.assert_allclose(pixels[..., 2], depth, rtol=1e-5)
    v, u = np.mgrid[0.5:24, 0.5:32]
    np.testing.assert_allclose(pixels[..., :2] / pixels[..., 2:], np.stack([u, v], -1)[None].repeat(2, 0), atol=1e-3)
