# SPDX-License-Identifier: Apache-2.0
"""A voxel map of planes whose place is known, and of a thing that walks away."""

import numpy as np
import pytest

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import Similarity
from da3_core.geometry.voxel_map import MOST_HITS, VoxelMap
from da3_core.stream.corrections import Bend

SIZE = (30, 40)
INTRINSICS = np.array([[30.0, 0, 20], [0, 30, 15], [0, 0, 1]])
VOXEL_M = 0.1
WALL_M = 3.0
EVERYTHING = np.ones(SIZE, bool)


def camera_at(x: float) -> np.ndarray:
    camera_to_world = np.eye(4)
    camera_to_world[0, 3] = x
    return invert_rigid(camera_to_world)


def colors(value: int = 100) -> np.ndarray:
    return np.full((*SIZE, 3), value, np.uint8)


def wall() -> np.ndarray:
    return np.full(SIZE, WALL_M, np.float32)


def with_person(depth_m: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """The wall with something nearer in the middle, and where that is."""
    depth, person = wall(), np.zeros(SIZE, bool)
    person[8:22, 14:26] = True
    depth[person] = depth_m
    return depth, person


def test_a_wall_is_one_sheet_of_voxels_where_it_is() -> None:
    it = VoxelMap(VOXEL_M, 100_000)
    for number, x in enumerate((0.0, 0.3, 0.6)):
        it.add(
            wall(),
            EVERYTHING,
            colors(50 + 100 * (number % 2)),
            np.full(SIZE, 2 + number),
            INTRINSICS,
            camera_at(x),
            number,
        )
    seen = it.voxels()
    assert len(seen) == len(it) > 500
    np.testing.assert_allclose(seen.points[:, 2], WALL_M, atol=1e-4)
    cells = np.floor(seen.points[:, :2] / VOXEL_M)
    assert len(np.unique(cells, axis=0)) == len(cells), "one for each place"
    middle = np.argmin(np.linalg.norm(seen.points[:, :2] - 0.3, axis=1))
    assert seen.hits[middle] == 3
    assert seen.colors[middle] == pytest.approx(np.full(3, 83), abs=8)
    assert seen.confidence[middle] == pytest.approx(3, abs=0.3)


def test_what_walks_away_leaves_no_trail_and_the_wall_stays() -> None:
    it = VoxelMap(VOXEL_M, 100_000)
    for number in range(3):
        it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(0), number)
    depth, _ = with_person()
    it.add(depth, EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 3)
    near = it.voxels().points[:, 2] < 2
    assert near.sum() > 20
    it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 4)
    assert not (it.voxels().points[:, 2] < 2).any()
    assert it.voxels().hits.max() == 5
    unknown = wall()
    unknown[:] = np.nan
    before = len(it)
    it.add(unknown, EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 5)
    assert len(it) == before, "nothing is known to be free"
    for number in range(MOST_HITS):
        sky = np.full(SIZE, np.inf, np.float32)
        it.add(sky, EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 6 + number)
    assert len(it) == 0, "sky is behind everything"


def test_pixels_that_are_not_chosen_give_no_points() -> None:
    it = VoxelMap(VOXEL_M, 100_000)
    depth, person = with_person()
    it.add(depth, ~person, colors(), None, INTRINSICS, camera_at(0), 0)
    np.testing.assert_allclose(it.voxels().points[:, 2], WALL_M, atol=1e-4)
    assert (it.voxels().confidence == 1).all()


def test_the_number_of_voxels_is_bounded_and_the_best_seen_stay() -> None:
    it = VoxelMap(0.02, 300)
    left = np.zeros(SIZE, bool)
    left[:, :5] = True
    for number in range(3):
        it.add(wall(), left, colors(), None, INTRINSICS, camera_at(0), number)
    it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 3)
    seen = it.voxels()
    assert len(seen) == 300
    assert (seen.hits == 4).sum() == 150


def test_a_bend_moves_voxels_as_the_views_that_saw_them() -> None:
    it = VoxelMap(VOXEL_M, 100_000)
    it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 0)
    it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(50), 1)
    it.bend(Bend({0: Similarity.identity(), 1: Similarity(2.0, np.eye(3), np.array([0.0, 0, 1]))}))
    far = it.voxels().points[:, 0] > 25
    np.testing.assert_allclose(it.voxels().points[~far, 2], WALL_M, atol=1e-4)
    np.testing.assert_allclose(it.voxels().points[far, 2], 2 * WALL_M + 1, atol=1e-4)
    assert it.voxels().points[far, 0].mean() == pytest.approx(100, abs=0.5)
    before = len(it)
    it.add(wall(), EVERYTHING, colors(), None, INTRINSICS, camera_at(0), 2)
    assert len(it) == before, "keys are in order again"
