# SPDX-License-Identifier: Apache-2.0
"""Depth corrected by what matches triangulate: a known distortion comes out, wrong and missing matches do no harm."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from feature_poses import soft_depth

from da3_core.geometry.depth_correction import MIN_MATCHES, fit_correction
from da3_core.postprocessing import with_feature_poses
from da3_core.prediction import Prediction
from da3_core.synthetic import Walk

HEIGHT, WIDTH = 60, 80


def error(depth: np.ndarray, truth: np.ndarray) -> float:
    """AbsRel after one median scale."""
    return float(np.mean(np.abs(depth * np.median(truth) / np.median(depth) - truth) / truth))


@pytest.mark.parametrize("wrong", [0, 15])
def test_a_smooth_distortion_comes_out(wrong: int) -> None:
    random = np.random.default_rng(3)
    truth = cv2.resize(random.uniform(1, 6, (3, 4)), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    distortion = 0.3 * np.linspace(-1, 1, WIDTH)[None] - 0.2 * np.linspace(-1, 1, HEIGHT)[:, None]
    depth = truth**0.8 * np.exp(distortion)  # near and far drawn together as well
    pixels = random.uniform(0, [WIDTH, HEIGHT], (150, 2))
    column, row = pixels.astype(int).T
    deviations = random.uniform(0.01, 0.1, 150)
    ratios = np.log(truth / depth)[row, column] + deviations * random.normal(size=150)
    ratios[:wrong] += random.uniform(-2, 2, wrong)
    corrected = depth * fit_correction(pixels, ratios, deviations, depth)
    assert error(corrected, truth) < 0.25 * error(depth, truth)


def test_few_matches_change_nothing_and_holes_stay_holes() -> None:
    depth = np.full((HEIGHT, WIDTH), 2, np.float32)
    depth[:10] = np.nan
    pixels = np.random.default_rng(0).uniform([0, 20], [WIDTH, HEIGHT], (MIN_MATCHES, 2))
    told = np.full(MIN_MATCHES, 0.2), np.full(MIN_MATCHES, 0.02)
    some = [values[1:] for values in (pixels, *told)]
    assert (fit_correction(*some, depth) == 1).all()
    factors = fit_correction(pixels, *told, depth)
    assert factors.dtype == np.float32
    assert np.isfinite(factors).all()
    assert np.median(factors) == pytest.approx(np.exp(0.2), rel=0.03)


def test_views_that_match_correct_each_other(walk: Walk) -> None:
    frames = [8, 9, 10]
    depth = soft_depth(walk.depth_m[frames], "soft alike", seed=4)
    given = Prediction(
        depth=depth, intrinsics=np.tile(walk.intrinsics, (3, 1, 1)), processed_images=walk.images[frames]
    )
    plain, refined = (with_feature_poses(given, refine_depth=refine) for refine in (False, True))
    np.testing.assert_array_equal(plain.extrinsics, refined.extrinsics)
    assert plain.aux["feature_poses"].depth_factors is None
    assert error(refined.depth, walk.depth_m[frames]) < 0.7 * error(plain.depth, walk.depth_m[frames])

    still = replace(given.views(np.array([0, 0])), depth=depth[:2])
    assert (with_feature_poses(still, refine_depth=True).aux["feature_poses"].depth_factors == 1).all()

    sky = np.zeros(depth.shape, bool)
    sky[:, :40] = True
    assert np.isfinite(with_feature_poses(replace(given, sky=sky), refine_depth=True).depth).all()
