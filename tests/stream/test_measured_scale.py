# SPDX-License-Identifier: Apache-2.0
"""Metres from depth that is known at a few pixels, and from the ground, against a room that is known exactly."""

from dataclasses import replace

import numpy as np
import pytest

from da3_core.options import InferenceOptions
from da3_core.ros_data.conventions import camera_pose_in_map
from da3_core.stream.frame import Frame
from da3_core.stream.inference import bind_inference
from da3_core.stream.measured_scale import ground_of
from da3_core.stream.session import Session, SessionOptions, SessionScale, UpSource
from da3_core.synthetic import Walk, room_walk
from da3_core.synthetic.exact import ExactModel

WIDTH, HEIGHT = 168, 126
LIDAR_POINTS = 500


@pytest.fixture(scope="module")
def walk() -> Walk:
    return room_walk(frames=6, size=(HEIGHT, WIDTH), seed=5)


def frame_of(walk: Walk, k: int, reference: bool) -> Frame:
    """Of every fourth point the camera sees something nearer."""
    rng = np.random.default_rng(k)
    x, y = rng.integers(WIDTH, size=LIDAR_POINTS), rng.integers(HEIGHT, size=LIDAR_POINTS)
    depth_m = walk.depth_m[k][y, x].astype(float)
    depth_m[::4] *= 1.7
    given = np.column_stack([x + 0.5, y + 0.5, depth_m]) if reference else None
    return Frame(walk.images[k], k * 10**8, "camera", walk.intrinsics, reference_depth=given)


def session(walk: Walk, source: SessionScale, height_m: float = 1.0) -> Session:
    infer = bind_inference(ExactModel(walk), InferenceOptions(process_res=WIDTH))
    return Session(infer, SessionOptions(source, 1.0, height_m))


def test_a_map_has_the_metres_of_its_reference_depth_also_in_windows_without(walk: Walk) -> None:
    frames = [frame_of(walk, k, reference=k < 3) for k in range(6)]
    it = session(walk, "depth")
    results = [it.process(frames[k : k + 2]) for k in range(5)]
    for k, result in enumerate(results):
        for view, true_m in zip(result.views, walk.depth_m[k : k + 2], strict=True):
            np.testing.assert_allclose(view.depth, true_m, rtol=1e-3)
    assert {(result.scale_source, result.segment) for result in results} == {("depth", 0)}
    assert 0 < results[2].scale_deviation < results[0].scale_deviation


def test_metres_that_come_later_begin_a_map(walk: Walk) -> None:
    frames = [frame_of(walk, k, reference=k == 2) for k in range(4)]
    it = session(walk, "depth")
    results = [it.process(frames[k : k + 2]) for k in range(3)]
    assert [(result.scale_source, result.segment) for result in results] == [("none", 0), ("depth", 1), ("depth", 1)]
    np.testing.assert_allclose(results[-1].views[-1].depth, walk.depth_m[3], rtol=1e-3)


def test_single_views_have_the_metres_of_their_own_points(walk: Walk) -> None:
    result = session(walk, "depth").process([frame_of(walk, 0, reference=True)])
    np.testing.assert_allclose(result.views[0].depth, walk.depth_m[0], rtol=1e-3)
    assert (result.placement, result.scale_source) == ("unposed", "depth")


def test_the_ground_under_the_camera_says_metres(walk: Walk) -> None:
    frames = [frame_of(walk, k, reference=False) for k in range(2)]
    height_m = float(np.median(walk.camera_to_world[:2, 2, 3]))  # the camera sways
    result = session(walk, "height", height_m).process(frames)
    np.testing.assert_allclose(result.views[1].depth, walk.depth_m[1], rtol=0.02)
    assert result.scale_source == "height"


@pytest.mark.parametrize(("source", "degrees"), [("imu", 1e-3), ("floor", 1.0)])
def test_a_map_is_level_though_its_first_camera_is_not(walk: Walk, source: UpSource, degrees: float) -> None:
    frames = [
        replace(frame_of(walk, k, reference=False), up=up_in(walk, k) if source == "imu" else None) for k in range(2)
    ]
    infer = bind_inference(ExactModel(walk), InferenceOptions(process_res=WIDTH))
    result = Session(infer, SessionOptions("none", 1.0, up=source)).process(frames)
    assert result.up == source
    for k, view in enumerate(result.views):
        assert view.world_to_camera is not None
        up_in_map = camera_pose_in_map(view.world_to_camera)[:3, :3] @ up_in(walk, k)
        assert np.degrees(np.arccos(np.clip(up_in_map[2], -1, 1))) < degrees
    forward = camera_pose_in_map(result.views[0].world_to_camera)[:3, 2]
    assert abs(forward[1]) < 1e-6, "headed along x"


def up_in(walk: Walk, k: int) -> np.ndarray:
    return walk.camera_to_world[k][2, :3]


def test_where_no_ground_is_seen_there_are_no_metres(walk: Walk) -> None:
    frame = frame_of(walk, 0, reference=False)
    prediction = bind_inference(ExactModel(walk), InferenceOptions(process_res=WIDTH))([frame])
    wall = replace(prediction, depth=np.full_like(prediction.depth, 2.0))
    assert ground_of(frame, wall, 0) is None
