# SPDX-License-Identifier: Apache-2.0
"""A view at the size of its camera's image: intrinsics, depth, and everything aligned with it."""

from dataclasses import replace

import numpy as np

from da3_core.stream.frame import Frame
from da3_core.stream.session import View
from da3_core.stream.view_size import at_camera_size


def view() -> View:
    """A step in depth that the image shows, between columns 4 and 5 of 10 processed ones."""
    depth = np.full((6, 10), 2.0, np.float32)
    depth[:, 5:] = 5
    image = np.zeros((24, 40, 3), np.uint8)
    image[:, 20:] = 200
    return View(
        frame=Frame(image),
        number=0,
        is_new=True,
        image=image[::4, ::4].copy(),
        depth=depth,
        confidence=np.linspace(1, 2, 60, dtype=np.float32).reshape(6, 10),
        sky=depth > 4,
        intrinsics=np.array([[8.0, 0, 5], [0, 8, 3], [0, 0, 1]]),
        world_to_camera=np.eye(4),
        processed_from_original=np.diag([0.25, 0.25, 1.0]),
    )


def test_everything_has_the_size_of_the_image_and_edges_are_where_the_image_has_them() -> None:
    large = at_camera_size(view())
    assert large.image.shape == (24, 40, 3)
    expected = np.full((24, 40), 2.0)
    expected[:, 20:] = 5
    np.testing.assert_allclose(large.depth, expected, rtol=0.01)
    np.testing.assert_array_equal(large.sky, expected > 4)
    np.testing.assert_allclose(large.intrinsics, [[32, 0, 20], [0, 32, 12], [0, 0, 1]])
    assert large.confidence.shape == (24, 40)
    assert abs(large.confidence.mean() - 1.5) < 0.01
    np.testing.assert_array_equal(large.processed_from_original, np.eye(3))


def test_what_is_not_known_stays_so() -> None:
    bare = at_camera_size(replace(view(), confidence=None, sky=None, intrinsics=None))
    assert (bare.confidence, bare.sky, bare.intrinsics) == (None, None, None)
    unknown = replace(view(), processed_from_original=None)
    assert at_camera_size(unknown) is unknown
