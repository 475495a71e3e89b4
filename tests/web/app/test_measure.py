# SPDX-License-Identifier: Apache-2.0
"""Depth and distance at pixels, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from da3_core.prediction import Prediction
from da3_core.web.app.measure import draw_pixels, measure


def test_distance_of_two_points_is_that_of_a_3_4_5_triangle(prediction: Prediction) -> None:
    depth = prediction.depth.copy()
    depth[1, 9, 15] = 5
    prediction = replace(prediction, depth=depth)
    # Pixel 9 is centred at the principal point: (0, 0, 1). Pixel 15 is 6 pixels to the right: (6 / 10 * 5, 0, 5).
    measured = measure(prediction, 1, [(9, 9), (15, 9)])
    assert measured.depths == (1, 5)
    assert measured.distance == pytest.approx(5, abs=1e-6)
    assert str(measured) == "point 1: depth 1.00 m, point 2: depth 5.00 m, distance 5.00 m"
    # In the other view everything is at depth 1: (0.6, 0, 1).
    assert measure(prediction, 0, [(9, 9), (15, 9)]).distance == pytest.approx(0.6, abs=1e-6)


def test_metres_are_only_claimed_where_the_prediction_is_metric(prediction: Prediction) -> None:
    text = str(measure(replace(prediction, is_metric=0), 0, [(9, 9), (19, 9)]))
    assert text == "point 1: depth 1.00 units, point 2: depth 1.00 units, distance 1.00 units"


def test_one_point_has_a_depth_and_no_distance(prediction: Prediction) -> None:
    assert str(measure(prediction, 0, [(3, 4)])) == "point 1: depth 1.00 m"


def test_holes_and_sky_have_no_depth(prediction: Prediction) -> None:
    depth = prediction.depth.copy()
    depth[0, 2, 3] = np.nan
    sky = np.zeros(depth.shape, bool)
    sky[0, 0] = True
    measured = measure(replace(prediction, depth=depth, sky=sky), 0, [(3, 2), (7, 0)])
    assert str(measured) == "point 1: no depth, point 2: no depth"


def test_without_intrinsics_there_is_depth_alone(prediction: Prediction) -> None:
    text = str(measure(replace(prediction, intrinsics=None), 0, [(9, 9), (15, 9)]))
    assert text.endswith("depth 1.00 m, no distance, because the intrinsics are not known")


def test_marks_are_drawn_on_a_copy() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    drawn = draw_pixels(image, [(10, 20), (50, 20)])
    assert not image.any()
    assert drawn[20, 10].argmax() == 0  # red
    assert drawn[20, 50].argmax() == 2  # blue
    assert drawn[20, 30].min() > 200  # the line between
    assert not drawn[:10].any()
