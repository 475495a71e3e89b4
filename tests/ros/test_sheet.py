# SPDX-License-Identifier: Apache-2.0
"""The sheet of a run in which hardly any or no frame found a place: it is drawn all the same and says so."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from da3_core.synthetic import Walk
from da3_ros.demo.comparison import Comparison, Findings, PosedFrames
from da3_ros.demo.sheet import Caption, draw_sheet


@pytest.fixture
def truth(walk: Walk) -> PosedFrames:
    frames = [0, 2, 4]
    small = walk.depth_m[frames, ::2, ::2]
    colour = np.stack([cv2.resize(image, (160, 120)) for image in walk.images[frames]])
    half = np.diag([0.5, 0.5, 1]) @ walk.intrinsics
    return PosedFrames(colour, small, np.tile(half, (3, 1, 1)), walk.camera_to_world[frames])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("placed", [0, 1, 2, 3])
@pytest.mark.parametrize("truth_is_known", [True, False])
def test_frames_without_a_place_are_left_out_of_the_map(truth: PosedFrames, placed: int, truth_is_known: bool) -> None:
    cameras = truth.camera_to_world.copy()
    cameras[placed:] = np.nan
    scales = np.array([2, 2, 2]) if placed == 3 else np.where(np.arange(3) < placed, 2.0, 5.0)
    cameras[:, :3, 3] *= 2
    estimate = replace(truth, depth=truth.depth * scales[:, None, None].astype(np.float32), camera_to_world=cameras)
    confidence, seconds = np.ones_like(truth.depth), np.arange(3.0)
    findings = Comparison.of(truth, estimate, confidence, seconds)
    assert findings.estimate.placed.sum() == placed
    assert findings.depth_error < 1e-6, "what has no place has a scale of its own"
    assert np.isnan(findings.cloud_error_m) if placed == 0 else findings.cloud_error_m < 1e-4
    assert np.isnan(findings.trajectory_error_m) if placed < 2 else findings.trajectory_error_m < 1e-6
    shown = findings if truth_is_known else Findings(estimate, confidence, seconds)
    sheet = draw_sheet(shown, Caption("title", "subtitle", None, [("number", "1")]))
    assert sheet.width > 1200
    assert (np.asarray(sheet) != 255).mean() > 0.1
