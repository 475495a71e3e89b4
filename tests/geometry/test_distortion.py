# SPDX-License-Identifier: Apache-2.0
"""Rectification against OpenCV's own functions, and what it keeps of the field of view."""

import cv2
import numpy as np
import pytest

from da3_core.errors import InputError
from da3_core.geometry.distortion import WIDEST_HALF_ANGLE, Lens, Rectification, rectification

SIZE_HW = (360, 640)
INTRINSICS = np.array([[300.0, 0, 315], [0, 301, 184], [0, 0, 1]])
HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV counts from the centres of pixels
CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)

# OpenCV's coefficients and ours.
POLYNOMIALS = {
    "barrel": ([-0.3, 0.1, 1e-3, -2e-3, -0.01], Lens(radial=(-0.3, 0.1, -0.01), tangential=(1e-3, -2e-3))),
    "pincushion": ([0.12, 0.02, 0, 0, 0], Lens(radial=(0.12, 0.02))),
    "rational": (
        [0.4, -0.1, 1e-3, 0, 0.02, 0.5, 0.1, 0.01],
        Lens(radial=(0.4, -0.1, 0.02), denominator=(0.5, 0.1, 0.01), tangential=(1e-3, 0)),
    ),
    "thin prism": (
        [-0.05, 0, 0, 0, 0, 0, 0, 0, 2e-3, -1e-3, 1e-3, 5e-4],
        Lens(radial=(-0.05,), prism=(2e-3, -1e-3, 1e-3, 5e-4)),
    ),
}
FISHEYE = ([0.1, -0.02, 0.003, 0.0], Lens("fisheye", radial=(0.1, -0.02, 0.003, 0.0)))
LENSES = {**POLYNOMIALS, "fisheye": FISHEYE}


def opencv_undistorts(name: str, uv: np.ndarray, pinhole: np.ndarray) -> np.ndarray:
    """Where OpenCV's rectification with the same camera puts pixels `(P, 2)`."""
    points, d = uv[:, None] - 0.5, np.array(LENSES[name][0])
    if name == "fisheye":
        found = cv2.fisheye.undistortPoints(points, INTRINSICS - HALF, d, P=pinhole - HALF)
    else:
        found = cv2.undistortPointsIter(points, INTRINSICS - HALF, d, None, pinhole - HALF, CRITERIA)
    return found[:, 0] + 0.5


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", LENSES)
def test_points_lie_where_opencv_has_them(name: str, alpha: float) -> None:
    result = rectification(LENSES[name][1], INTRINSICS, SIZE_HW, alpha)
    uv = np.random.default_rng(0).uniform((0, 0), SIZE_HW[::-1], (500, 2))
    rectified = opencv_undistorts(name, uv, result.intrinsics)
    x, y = ((rectified - result.intrinsics[:2, 2]) / result.intrinsics[[0, 1], [0, 1]]).T
    shown = np.hypot(x, y) < min(result.lens.edge, np.tan(WIDEST_HALF_ANGLE))
    assert shown.mean() > 0.75
    seen = np.stack(result.seen_at(*rectified.T), -1)
    assert np.abs(seen - uv)[shown].max() < 0.01


@pytest.mark.parametrize("name", LENSES)
def test_blobs_of_a_distorted_image_move_to_where_opencv_projects_them(name: str) -> None:
    result = rectification(LENSES[name][1], INTRINSICS, SIZE_HW, 0.0)
    for u, v in [(320.0, 180.0), (120.5, 90.0), (470.0, 280.3), (200.0, 300.0)]:
        columns, rows = np.meshgrid(np.arange(640) + 0.5, np.arange(360) + 0.5)
        blob = 255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 2 / 1.5**2)
        rectified = result(blob.astype(np.uint8)).astype(float)
        found = np.array([(rectified * columns).sum(), (rectified * rows).sum()]) / rectified.sum()
        (expected,) = opencv_undistorts(name, np.array([[u, v]]), result.intrinsics)
        assert np.abs(found - expected).max() < 0.3


@pytest.mark.parametrize("name", LENSES)
def test_alpha_0_shows_something_everywhere_and_1_shows_all(name: str) -> None:
    filled, whole = (rectification(LENSES[name][1], INTRINSICS, SIZE_HW, alpha) for alpha in (0.0, 1.0))
    white = np.full((*SIZE_HW, 3), 255, np.uint8)
    assert filled(white).min() == 255
    assert filled.kept <= whole.kept
    if name in ("barrel", "pincushion", "thin prism"):  # the others see more than any pinhole, or fold at the corners
        assert whole.kept > 0.999
    # OpenCV's smallest camera that shows everything, of one zoom for both sides, is not much wider or narrower.
    if name in ("barrel", "thin prism"):
        d = np.array(LENSES[name][0])
        theirs, _ = cv2.getOptimalNewCameraMatrix(INTRINSICS - HALF, d, SIZE_HW[::-1], 1.0)
        assert whole.intrinsics[0, 0] == pytest.approx(min(theirs[0, 0], theirs[1, 1]), rel=0.02)


def test_half_of_what_a_fisheye_sees_is_more_than_its_own_focal_length_keeps() -> None:
    """180° over 640 pixels: a pinhole camera of its own focal length shows 41 % of it, of all that lies before it."""
    lens, radius = Lens("fisheye"), 320.0
    focal = radius / (np.pi / 2)
    intrinsics = np.array([[focal, 0, 320], [0, focal, 320], [0, 0, 1]])
    own = Rectification(lens, intrinsics, intrinsics, (640, 640))
    assert own.kept < 0.45
    filled, whole = (rectification(lens, intrinsics, (640, 640), alpha) for alpha in (0.0, 1.0))
    circle = np.pi / 4
    assert filled.kept > 0.5 * circle
    assert whole.kept == pytest.approx((80 / 90) ** 2 * circle, abs=0.02)
    np.testing.assert_allclose(whole.intrinsics[:2, 2], 320, atol=1e-6)


def test_what_does_not_distort_is_a_pinhole() -> None:
    assert Lens().is_pinhole
    assert Lens(radial=(1e-9, 0, 0), tangential=(0, -1e-9)).is_pinhole
    assert not Lens(radial=(1e-3,)).is_pinhole
    assert not Lens("fisheye").is_pinhole


def test_a_lens_that_folds_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"folds the image \d+ pixels from its centre"):
        rectification(Lens(radial=(-300.0,)), INTRINSICS, SIZE_HW, 0.0)


def test_the_corners_beyond_a_fold_are_black_and_hold_no_ghost() -> None:
    """A polynomial that was fitted to the middle turns back outside of it and would show the middle again."""
    lens = Lens(radial=(-0.4,))
    wide = INTRINSICS * np.array([[0.4, 1, 1], [1, 0.4, 1], [1, 1, 1]])
    pinhole = wide.copy()
    result = Rectification(lens, wide, pinhole, SIZE_HW)(np.full((*SIZE_HW, 3), 255, np.uint8))
    columns, rows = np.meshgrid(np.arange(640) + 0.5, np.arange(360) + 0.5)
    radius = np.hypot((columns - wide[0, 2]) / wide[0, 0], (rows - wide[1, 2]) / wide[1, 1])
    fold = np.sqrt(1 / 3 / 0.4)
    assert (result[radius > fold + 0.02] == 0).all()
    assert (result[radius < fold - 0.02] == 255).all()
