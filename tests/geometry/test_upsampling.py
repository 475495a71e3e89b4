# SPDX-License-Identifier: Apache-2.0
"""Depth at the size of the image: exact on planes, with edges where the image has them, and nothing made up."""

import cv2
import numpy as np
import pytest

from da3_core.geometry.upsampling import upsample_guided

SMALL, LARGE = (28, 35), (160, 200)


def shrunk(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(image, SMALL[::-1], interpolation=cv2.INTER_AREA))


def centres(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of pixel centres, as shares of the image."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    return u / size[1], v / size[0]


def tilted(size: tuple[int, int]) -> np.ndarray:
    """Depth of a plane: 1 / depth is linear in the image."""
    u, v = centres(size)
    return np.asarray(1 / (0.2 + 0.1 * u + 0.05 * v), np.float32)


@pytest.mark.parametrize(("textured", "tolerance"), [(False, 1e-5), (True, 0.02)])
def test_planes_stay_planes(textured: bool, tolerance: float) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*LARGE, 3), np.uint8) if textured else np.full((*LARGE, 3), 90, np.uint8)
    result = upsample_guided(tilted(SMALL), shrunk(image), image)
    inner = (slice(4, -4), slice(4, -4))  # at the rim there is nothing to interpolate with
    np.testing.assert_allclose(result[inner], tilted(LARGE)[inner], rtol=tolerance)


def test_edges_are_where_the_image_has_them() -> None:
    u, v = centres(LARGE)
    near = u + 0.3 * v > 0.6
    image = np.where(near[..., None], [200, 180, 90], [60, 70, 120]).astype(np.uint8)
    truth = np.where(near, 2.0, 5.0).astype(np.float32)
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(SMALL, LARGE, strict=True))
    depth = truth[np.ix_(rows, columns)]

    def wrong(result: np.ndarray) -> float:
        return float((np.abs(result / truth - 1) > 0.1).mean())

    assert wrong(upsample_guided(depth, shrunk(image), image)) < 0.002
    assert wrong(cv2.resize(depth, LARGE[::-1])) > 0.02  # the plain twin


def test_unknown_pixels_spread_nothing_and_cropped_ones_stay_unknown() -> None:
    image = np.full((20, 40, 3), 90, np.uint8)
    depth = np.full((10, 10), 3, np.float32)
    depth[4, 4], depth[5, 5], depth[6, 6] = np.nan, 0, -1
    # Half the size of the image, of which only columns 10 to 30 are seen.
    result = upsample_guided(depth, image[:10, :10], image, np.array([[0.5, 0, -5], [0, 0.5, 0], [0, 0, 1]]))
    np.testing.assert_allclose(result[:, 10:30], 3, rtol=1e-6)
    assert not result[:, :10].any()
    assert not result[:, 30:].any()
