# SPDX-License-Identifier: Apache-2.0
"""The embedded model on the synthetic room, which its training never showed: that its depth and poses mean something.

The limits are what the shipped weights reach and a margin; a wrong normalisation, channel order or tensor fails them.
"""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from da3_core import DepthAnything3
from da3_core.geometry.cameras import invert_rigid
from da3_core.synthetic import Walk

SINGLE = (0, 4, 8, 12, 16, 20)
PAIRS = ((0, 1), (4, 6), (8, 9), (12, 14), (17, 18), (20, 22))


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("embedded", precision="float32")


def scores(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """AbsRel and delta1 after one median scale."""
    estimate = estimate * (np.median(truth) / np.median(estimate))
    return float((np.abs(estimate - truth) / truth).mean()), float(
        (np.maximum(estimate / truth, truth / estimate) < 1.25).mean()
    )


def test_depth_of_single_views_is_far_better_than_a_constant(model: DepthAnything3, walk: Walk) -> None:
    found = []
    for frame in SINGLE:
        prediction = model.inference([walk.images[frame]])
        assert prediction.depth.shape == (1, 168, 224)
        truth = cv2.resize(walk.depth_m[frame], (224, 168), interpolation=cv2.INTER_NEAREST_EXACT)
        found.append((*scores(prediction.depth[0], truth), *scores(np.ones_like(truth), truth)))
    abs_rel, delta1, constant_abs_rel, constant_delta1 = np.mean(found, axis=0)
    assert abs_rel < min(0.15, 0.5 * constant_abs_rel)
    assert delta1 > max(0.82, 1.5 * constant_delta1)


def test_cameras_of_pairs_are_right(model: DepthAnything3, walk: Walk) -> None:
    rotations, directions = [], []
    for pair in PAIRS:
        frames = list(pair)
        prediction = model.inference(list(walk.images[frames]), intrinsics=np.tile(walk.intrinsics, (2, 1, 1)))
        assert prediction.extrinsics is not None, prediction.aux["feature_poses"].failure
        first, second = prediction.extrinsics.astype(np.float64)
        true_first, true_second = invert_rigid(walk.camera_to_world[frames])
        estimate, truth = second @ invert_rigid(first), true_second @ invert_rigid(true_first)
        rotations.append(np.rad2deg(Rotation.from_matrix(estimate[:3, :3].T @ truth[:3, :3]).magnitude()))
        u, v = estimate[:3, 3], truth[:3, 3]
        directions.append(np.rad2deg(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))))
    assert np.median(rotations) < 0.3
    assert max(rotations) < 1.5
    assert np.median(directions) < 1
    assert max(directions) < 3
