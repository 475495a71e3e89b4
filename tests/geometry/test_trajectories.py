# SPDX-License-Identifier: Apache-2.0
"""Camera paths of rendered videos: frame counts, end points and movements worked out by hand."""

from typing import get_args

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core.geometry.trajectories import Mode, Trajectory, dolly_zoom, make_trajectory, smooth, wander


def cameras(count: int) -> Trajectory:
    """A curved walk with turning cameras whose focal length grows."""
    camera_to_world = np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        camera_to_world[i, :3, :3] = Rotation.from_euler("yxz", [12 * i, 5 * i, 3], degrees=True).as_matrix()
        camera_to_world[i, :3, 3] = (i, 0.1 * i**2, -i)
    intrinsics = np.tile(np.array([[100.0, 0, 50], [0, 110, 40], [0, 0, 1]]), (count, 1, 1))
    intrinsics[:, 0, 0] += 10 * np.arange(count)
    return Trajectory(camera_to_world, intrinsics)


@pytest.mark.parametrize(
    ("mode", "views", "frames"),
    [
        ("original", 5, 5),
        ("smooth", 5, 5),
        ("interpolate", 2, 48),  # 48 // 1
        ("interpolate", 5, 45),  # 48 // 4 = 12: 12 + 3 * 11
        ("interpolate", 8, 50),  # 8 + 6 * 7
        ("interpolate", 61, 181),  # 240 // 60 = 4: 4 + 59 * 3
        ("interpolate", 200, 200),  # 240 // 199 = 1: as they are
        ("interpolate_smooth", 8, 50),
        ("extend", 8, 124),  # 25 // 2 frames, 36 at least: 50 + 38 + 36
        ("extend", 50, 466),  # 172 // 2 frames, 60 at most: 344 + 62 + 60
        ("wander", 5, 122),
        ("dolly_zoom", 5, 120),
        ("wobble_inter", 2, 30),
        ("wobble_inter", 7, 60),
        ("wobble_inter", 8, 90),
        ("extend", 1, 122),
        ("dolly_zoom", 1, 122),
    ],
)
def test_number_of_frames(mode: Mode, views: int, frames: int) -> None:
    path = make_trajectory(mode, cameras(views))
    assert path.camera_to_world.shape == (len(path), 4, 4)
    assert path.intrinsics.shape == (len(path), 3, 3)
    assert len(path) == frames


@pytest.mark.parametrize("mode", get_args(Mode))
def test_every_camera_is_a_rigid_body_and_input_is_left_alone(mode: Mode) -> None:
    base = cameras(6)
    path = make_trajectory(mode, base, scene_depth=3)
    rotations = path.camera_to_world[:, :3, :3]
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), np.tile(np.eye(3), (len(path), 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    np.testing.assert_array_equal(path.camera_to_world[:, 3], np.tile([0, 0, 0, 1], (len(path), 1)))
    for name in ("camera_to_world", "intrinsics"):
        np.testing.assert_array_equal(getattr(base, name), getattr(cameras(6), name))


def test_interpolation_passes_every_camera_and_eases_between() -> None:
    base = cameras(8)
    path = make_trajectory("interpolate", base)
    np.testing.assert_allclose(path.camera_to_world[::7], base.camera_to_world, atol=1e-12)
    np.testing.assert_allclose(path.intrinsics[::7], base.intrinsics)
    share = (1 - np.cos(np.pi * 2 / 7)) / 2
    np.testing.assert_allclose(path.camera_to_world[2, :3, 3], share * base.camera_to_world[1, :3, 3])
    first, second = (Rotation.from_matrix(base.camera_to_world[i, :3, :3]) for i in (0, 1))
    expected = first * Rotation.from_rotvec(share * (first.inv() * second).as_rotvec())
    np.testing.assert_allclose(path.camera_to_world[2, :3, :3], expected.as_matrix(), atol=1e-12)


def test_rotation_takes_the_shorter_arc() -> None:
    base = cameras(2)
    base.camera_to_world[1, :3, :3] = Rotation.from_euler("z", -170, degrees=True).as_matrix()
    base.camera_to_world[0, :3, :3] = Rotation.from_euler("z", 170, degrees=True).as_matrix()
    turned = Rotation.from_matrix(make_trajectory("interpolate", base).camera_to_world[:, :3, :3])
    assert turned.inv().magnitude().min() > np.deg2rad(169.9)


def test_smoothing_keeps_straight_motion_and_calms_jitter() -> None:
    straight = cameras(101)
    straight.camera_to_world[:, :3, :3] = np.eye(3)
    straight.camera_to_world[:, :3, 3] = np.arange(101)[:, None] * (1, 2, 3)
    np.testing.assert_allclose(smooth(straight).camera_to_world[25:-25], straight.camera_to_world[25:-25], atol=1e-9)
    shaken = Trajectory(straight.camera_to_world.copy(), straight.intrinsics)
    shaken.camera_to_world[:, 1, 3] += np.where(np.arange(101) % 2, 0.5, -0.5)
    difference = smooth(shaken).camera_to_world - straight.camera_to_world
    assert np.abs(difference[25:-25]).max() < 1e-3
    two = cameras(2)
    assert smooth(two) is two


def in_camera_axes(path: Trajectory, camera: np.ndarray) -> np.ndarray:
    return (np.linalg.inv(camera) @ path.camera_to_world)[:, :3, 3]


def test_wander_is_an_ellipse_of_24_pixels_at_the_depth_of_the_scene() -> None:
    base = cameras(3)
    path = wander(base[1:2], scene_depth=5.5, frames=5)
    radius = 24 / 110 * 5.5
    expected = radius * np.array([(0, -1 / 3, -1 / 3), (-1, 0, 0), (0, 1 / 3, 1 / 3), (1, 0, 0), (0, -1 / 3, -1 / 3)])
    offsets = in_camera_axes(path, base.camera_to_world[1])
    np.testing.assert_allclose(offsets, [(0, 0, 0), *expected, (0, 0, 0)], atol=1e-12)
    np.testing.assert_array_equal(path.intrinsics, np.tile(base.intrinsics[1], (7, 1, 1)))


def test_dolly_zoom_goes_back_and_returns() -> None:
    base = cameras(1)
    path = dolly_zoom(base, scene_depth=4, frames=5)
    offsets = in_camera_axes(path, base.camera_to_world[0])
    np.testing.assert_allclose(offsets[:, 2], [0, -4, -8, -4, 0], atol=1e-12)
    np.testing.assert_allclose(path.intrinsics[:, 0, 0], 100 * 30 / np.array([30, 31, 32, 31, 30]))
    np.testing.assert_allclose(path.intrinsics[:, :2, 2], np.tile([50, 40], (5, 1)))


def test_wobble_circles_by_half_the_running_mean_distance() -> None:
    base = cameras(7)
    base.camera_to_world[:, :3, :3] = np.eye(3)
    base.camera_to_world[:, :3, 3] = np.array([0, 0, 0, 2, 2, 2, 8])[:, None] * (1, 0, 0)
    centres = make_trajectory("wobble_inter", base).camera_to_world[:, :3, 3]
    np.testing.assert_allclose(centres[0], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(centres[29], [2, -1, 0], atol=1e-12)
    np.testing.assert_allclose(centres[30], [2, -2, 0], atol=1e-12)  # half of (2 + 6) / 2


def test_extend_inserts_both_movements_at_the_middle() -> None:
    base = cameras(8)
    plain, extended = make_trajectory("interpolate_smooth", base), make_trajectory("extend", base)
    np.testing.assert_array_equal(extended.camera_to_world[:25], plain.camera_to_world[:25])
    np.testing.assert_array_equal(extended.camera_to_world[-25:], plain.camera_to_world[25:])
    middle = plain.camera_to_world[25]
    for frame in (25, 25 + 37, 25 + 38, 25 + 38 + 35):
        np.testing.assert_allclose(extended.camera_to_world[frame], middle, atol=1e-12)
    zoom = extended.intrinsics[25 + 38 : 25 + 38 + 36, 0, 0] / plain.intrinsics[25, 0, 0]
    assert zoom.min() == pytest.approx(10 / 10.1, abs=1e-4)
