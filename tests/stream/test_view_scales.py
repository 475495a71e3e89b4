# SPDX-License-Identifier: Apache-2.0
"""The scale of a view's depth is what the other views of its window have there."""

from dataclasses import replace

import numpy as np
import pytest
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.runs import make_frames
from stream_lab.worlds import walk

from da3_core.prediction import Prediction
from da3_core.stream.view_scales import steadied


@pytest.fixture(scope="module")
def exact() -> Prediction:
    hall = walk("hall", 120, 0.08, seed=7)
    return DisturbedModel(hall, CASES["exact"], 1)(make_frames(120)[:8])


def test_depth_that_fits_stays_and_one_that_does_not_is_put_right(exact: Prediction) -> None:
    np.testing.assert_allclose(steadied(exact).depth, exact.depth, rtol=2e-3)
    wrong = np.exp(0.05 * np.random.default_rng(0).normal(size=8)).astype(np.float32)
    wrong /= np.exp(np.log(wrong).mean())  # the mean is the window's scale, which nothing here can tell
    mended = steadied(replace(exact, depth=exact.depth * wrong[:, None, None]))
    np.testing.assert_allclose(mended.depth, exact.depth, rtol=5e-3)


def test_depth_stays_where_nothing_tells_its_scale(exact: Prediction) -> None:
    assert steadied(replace(exact, extrinsics=None)).depth is exact.depth
    assert exact.extrinsics is not None
    apart = exact.extrinsics.copy()
    apart[:, 0, 3] += 1000 * np.arange(8)  # views that see nothing of each other
    assert steadied(replace(exact, extrinsics=apart)).depth is exact.depth
    segments = np.array([0, 0, 0, 0, -1, -1, 1, 1])
    larger = exact.depth * np.where(segments == 1, np.float32(3), 1)[:, None, None]
    parted = steadied(replace(exact, depth=larger, segments=segments))
    np.testing.assert_array_equal(parted.depth[4:6], larger[4:6])


def test_an_error_that_all_views_share_stays_with_the_window(exact: Prediction) -> None:
    across = np.linspace(-0.1, 0.1, exact.depth.shape[2], dtype=np.float32)  # of each image
    shared = exact.depth * np.exp(across + 40 * across**3)
    np.testing.assert_allclose(steadied(replace(exact, depth=shared)).depth, shared, rtol=6e-3)  # 2 % of all moved
    of_one = np.where(np.arange(8) == 3, np.float32(1.1), 1)[:, None, None]
    moved = np.log(steadied(replace(exact, depth=shared * of_one)).depth / shared).mean(axis=(1, 2))
    assert moved[3] - np.delete(moved, 3).mean() == pytest.approx(0, abs=0.02)
