# SPDX-License-Identifier: Apache-2.0
"""Views are cut out of a prediction with all that belongs to them."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from da3_core.prediction import PER_VIEW, Prediction

OF_ALL_VIEWS = {"is_metric", "scale_factor", "gaussians", "aux", "world"}
COUNT = 4


def values_of(first: int, count: int) -> dict[str, Any]:
    """Of every field, with the number of the view as the value."""
    numbers = np.arange(first, first + count)
    shapes = {
        "depth": (2, 3),
        "conf": (2, 3),
        "sky": (2, 3),
        "extrinsics": (4, 4),
        "intrinsics": (3, 3),
        "assumed_intrinsics": (3, 3),
        "processed_images": (2, 3, 3),
        "original_sizes": (2,),
        "processed_from_original": (3, 3),
        "class_tokens": (4,),
        "segments": (),
        "stamps_ns": (),
    }
    arrays = {name: np.multiply.outer(numbers, np.ones(shape)) for name, shape in shapes.items()}
    texts = {name: tuple(f"{number}" for number in numbers) for name in ("image_names", "intrinsics_source")}
    return {**arrays, **texts}


def test_every_field_is_of_each_view_or_of_all() -> None:
    assert {field.name for field in fields(Prediction)} == {*PER_VIEW, *OF_ALL_VIEWS}
    assert set(PER_VIEW) == values_of(0, 1).keys()


def test_views_are_cut_out_of_everything() -> None:
    aux = {"feat_layer_5": np.zeros((COUNT, 1, 1, 8))}
    whole = Prediction(**values_of(0, COUNT), is_metric=1, scale_factor=2.0, aux=aux)
    some = whole.views(slice(1, 3))
    for name, value in values_of(1, 2).items():
        np.testing.assert_array_equal(getattr(some, name), value, err_msg=name)
        np.testing.assert_array_equal(getattr(whole.views(np.array([1, 2])), name), value, err_msg=name)
    assert (some.is_metric, some.scale_factor, some.gaussians, some.aux) == (1, 2.0, None, {})


def test_portraits_among_landscapes_are_not_cropped_in_silence() -> None:
    depth = np.zeros((2, 42, 42), np.float32)
    sizes, resize = np.array([[60, 80], [80, 60]]), np.tile(np.diag([0.7, 0.7, 1]), (2, 1, 1))
    mixed = Prediction(depth=depth, original_sizes=sizes, processed_from_original=resize)
    assert "75% is left" in mixed.cropped()
    whole = replace(mixed, depth=np.zeros((2, 42, 56), np.float32), original_sizes=sizes[[0, 0]])
    assert whole.cropped() is None
    assert replace(mixed, original_sizes=None).cropped() is None


def test_what_is_unknown_stays_so() -> None:
    one = Prediction(depth=np.zeros((COUNT, 2, 3), np.float32)).views(slice(-1, None))
    assert one.depth.shape == (1, 2, 3)
    assert all(getattr(one, name) is None for name in PER_VIEW if name != "depth")


def test_maps_are_views_that_share_a_world_the_largest_first() -> None:
    depth, extrinsics = np.zeros((4, 2, 3), np.float32), np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    one = Prediction(depth, extrinsics=extrinsics)
    assert [views.tolist() for views in one.maps] == [[0, 1, 2, 3]]
    several = Prediction(depth, extrinsics=extrinsics, segments=np.array([3, -1, 0, 0]))
    assert [views.tolist() for views in several.maps] == [[2, 3], [0]]
    assert several.placed.tolist() == [True, False, True, True]
    lost = Prediction(depth, segments=np.array([-1, -1, -1, -1]))
    assert (lost.maps, lost.placed.any()) == ([], False)
