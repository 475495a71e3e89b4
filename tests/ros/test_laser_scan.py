# SPDX-License-Identifier: Apache-2.0
"""The laser scan of depth against walls whose distance is known from their equation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.geometry.cameras import invert_rigid
from da3_core.options import CropOptions, ScanOptions
from da3_core.ros_data import values
from da3_core.ros_data.conventions import OPTICAL_TO_MAP, compose
from da3_core.ros_data.laser_scan import laser_scan
from da3_core.synthetic.render import Camera, render_depth
from da3_core.synthetic.scene import Scene
from da3_core.synthetic.shapes import Box, Material, Room

HALF_ROOM = np.array([2.5, 3.5, 1.3])  # of the synthetic room, without its furniture
SIZE = (120, 160)
INTRINSICS = np.array([[110.0, 0, 80], [0, 110, 60], [0, 0, 1]])
BAND = ScanOptions(min_height_m=0.2, max_height_m=1.0)
BASE_TO_ROOM = compose(np.array([0.4, -0.7, 0.0]), np.array([0, 0, np.sin(0.45), np.cos(0.45)]))
WOOD = (Material("wood", (1.0, 1.0)),)


def mounted(pitch_deg: float, yaw_deg: float = 0.0, height_m: float = 0.8) -> np.ndarray:
    """`(4, 4)` pose in the base of a camera that looks down by an angle."""
    pitch, yaw = np.deg2rad([pitch_deg, yaw_deg]) / 2
    turned = compose(np.zeros(3), np.array([0, 0, np.sin(yaw), np.cos(yaw)]))
    tilted = compose(np.array([0.15, 0.05, height_m]), np.array([0, np.sin(pitch), 0, np.cos(pitch)]))
    return turned @ tilted @ OPTICAL_TO_MAP


def depth_of(camera_to_base: np.ndarray, *things: Box) -> np.ndarray:
    room = Room(np.array([0, 0, HALF_ROOM[2]]), HALF_ROOM, WOOD * 6)
    camera = Camera(INTRINSICS, BASE_TO_ROOM @ camera_to_base)
    return render_depth(Scene((room, *things), (), ambient=np.ones((2, 3))), camera, SIZE)


def scan_of(
    depth_m: np.ndarray, camera_to_base: np.ndarray, band: ScanOptions = BAND
) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
    """Bearings, ranges, and the fields of the message."""
    fields = laser_scan(values.header(1, "base_link"), depth_m, depth_m > 0, INTRINSICS, camera_to_base, band).fields
    bearings = fields["angle_min"] + fields["angle_increment"] * np.arange(len(fields["ranges"]))
    assert bearings[-1] == pytest.approx(fields["angle_max"])
    return bearings, fields["ranges"], fields


def distances(bearings: np.ndarray) -> np.ndarray:
    """From the base to the walls of the room."""
    yaw = np.arctan2(BASE_TO_ROOM[1, 0], BASE_TO_ROOM[0, 0])
    towards = np.stack([np.cos(bearings + yaw), np.sin(bearings + yaw)], -1)
    with np.errstate(divide="ignore"):
        return np.min((np.sign(towards) * HALF_ROOM[:2] - BASE_TO_ROOM[:2, 3]) / towards, axis=-1)


@pytest.mark.parametrize(("pitch_deg", "yaw_deg"), [(0, 0), (12, 0), (5, 170), (-8, -90)])
def test_the_walls_of_the_room_are_where_they_are(pitch_deg: float, yaw_deg: float) -> None:
    camera_to_base = mounted(pitch_deg, yaw_deg)
    bearings, ranges, fields = scan_of(depth_of(camera_to_base), camera_to_base)
    seen = np.isfinite(ranges)
    assert seen.mean() > 0.85, "a few bearings at the rim are not seen, from the base"
    across = fields["angle_increment"] * np.linspace(-0.5, 0.5, 5)[:, None]  # of one bearing, whose nearest counts
    walls_m = distances(bearings + across)[:, seen]
    assert (ranges[seen] > walls_m.min(0) - 0.002).all()
    assert (ranges[seen] < walls_m.max(0) + 0.002).all()


def test_only_things_in_the_band_of_heights_are_seen() -> None:
    ahead = BASE_TO_ROOM @ np.array([1.2, 0, 0, 1.0])
    camera_to_base = mounted(10)
    for half_height, expected in ((0.05, distances(np.zeros(1))[0]), (0.3, 1.1)):
        centre, half = np.array([*ahead[:2], half_height]), np.array([0.1, 0.1, half_height])
        depth_m = depth_of(camera_to_base, Box(centre, half, WOOD, BASE_TO_ROOM[:3, :3]))
        bearings, ranges, _ = scan_of(depth_m, camera_to_base)
        assert ranges[np.argmin(abs(bearings))] == pytest.approx(expected, rel=0.01)


def test_free_and_unknown_bearings_are_told_apart() -> None:
    """REP 117. Half of the image is sky, half unknown; a camera that looks up says nothing about the band."""
    depth_m = np.full(SIZE, np.inf, np.float32)
    depth_m[:, 80:] = np.nan
    bearings, ranges, fields = scan_of(depth_m, mounted(0, height_m=0.5))
    assert np.isposinf(ranges[bearings > 0.05]).all()
    assert np.isnan(ranges[bearings < -0.05]).all()
    assert (fields["range_min"], fields["range_max"]) == (BAND.min_range_m, BAND.max_range_m)
    assert np.isnan(scan_of(np.full(SIZE, np.inf, np.float32), mounted(-60))[1]).all()


def test_beyond_the_largest_range_is_free_and_a_camera_that_looks_down_sees_all_around() -> None:
    camera_to_base = mounted(0)
    _, ranges, _ = scan_of(depth_of(camera_to_base), camera_to_base, ScanOptions(0.2, 1.0, max_range_m=1.0))
    assert np.isposinf(ranges).mean() > 0.8
    assert not np.isfinite(ranges).any()
    coarse = ScanOptions(0.2, 1.0, angle_increment_deg=10.0)
    _, ranges, fields = scan_of(np.full(SIZE, 0.4, np.float32), mounted(90), coarse)
    assert (len(ranges), fields["angle_increment"]) == (37, pytest.approx(np.deg2rad(10)))
    assert np.isfinite(ranges).any()


def test_the_inverse_of_a_mounting_is_noticed() -> None:
    camera_to_base = mounted(12)
    bearings, ranges, _ = scan_of(depth_of(camera_to_base), invert_rigid(camera_to_base))
    seen = np.isfinite(ranges)
    assert not seen.any() or abs(ranges[seen] / distances(bearings)[seen] - 1).max() > 0.05


def test_limits_that_leave_nothing_are_refused() -> None:
    for make in (
        lambda: ScanOptions(1.0, 1.0),
        lambda: ScanOptions(min_range_m=5.0, max_range_m=4.0),
        lambda: CropOptions(min_height_m=2.0, max_height_m=1.0),
    ):
        with pytest.raises(InputError, match=r"(scan|crop)\.max_"):
            make()
