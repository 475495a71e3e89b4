# SPDX-License-Identifier: Apache-2.0
"""Which pixels of two images show the same point: SIFT features and the matches between them. Deterministic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_FEATURES = 1000
LONGEST_SIDE = 800  # pixels; larger images take longer to search, and tell little more
CONTRAST_THRESHOLD = 0.01  # a quarter of OpenCV's default: walls and floors have few strong corners
MAX_DISTANCE_RATIO = 0.8  # nearest to second nearest descriptor, Lowe 2004
ALL_PAIRS_UP_TO_VIEWS = 8


@dataclass(frozen=True, eq=False)
class Features:
    """`K` features of one image: `pixels` `(K, 2)` float64 x y, pixel edges at integers; `descriptors` `(K, 128)`
    float32 of length 1; `pixel_size` of the image that was searched, in these pixels."""

    pixels: np.ndarray
    descriptors: np.ndarray
    pixel_size: float = 1.0

    def __getitem__(self, chosen: np.ndarray) -> Features:
        return Features(self.pixels[chosen], self.descriptors[chosen], self.pixel_size)


def detect_features(image: np.ndarray, wanted_from_image: np.ndarray | None = None) -> Features:
    """SIFT features of an `(H, W, 3)` uint8 RGB image, strongest first.

    Args:
        wanted_from_image: `(3, 3)`, a scale and a shift that the pixels go through; by default they stay.

    D. Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004. Descriptors are compared by the
    Hellinger kernel (R. Arandjelović and A. Zisserman, Three Things Everyone Should Know to Improve Object
    Retrieval, CVPR 2012).
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    if shrink < 1:
        grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    searched_from_image = np.diag([grey.shape[1] / width, grey.shape[0] / height, 1])
    wanted_from_image = np.eye(3) if wanted_from_image is None else wanted_from_image
    wanted_from_searched = wanted_from_image @ np.linalg.inv(searched_from_image)
    pixel_size = float(np.sqrt(wanted_from_searched[0, 0] * wanted_from_searched[1, 1]))

    sift = cv2.SIFT.create(MAX_FEATURES, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return Features(np.empty((0, 2)), np.empty((0, 128), np.float32), pixel_size)
    pixels = np.array([keypoint.pt for keypoint in keypoints], np.float64) + 0.5
    pixels = pixels @ wanted_from_searched[:2, :2].T + wanted_from_searched[:2, 2]
    shares = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1)
    return Features(pixels, np.sqrt(shares, dtype=np.float32), pixel_size)


def match_features(first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
    """Indices `(M,)` and `(M,)` of features that are each other's nearest, and clearly nearer than the next one."""
    if min(len(first.pixels), len(second.pixels)) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    squared_distance = np.maximum(2 - 2 * first.descriptors @ second.descriptors.T, 0)
    forward = _distinct_nearest(squared_distance)
    in_first = np.flatnonzero(forward >= 0)
    in_second = forward[in_first]
    mutual = _distinct_nearest(squared_distance.T[in_second]) == in_first
    in_first, in_second = in_first[mutual], in_second[mutual]
    # A feature of several orientations is there as often, and would count as often.
    places = np.rint(np.concatenate([first.pixels[in_first], second.pixels[in_second]], 1) / first.pixel_size)
    once = np.sort(np.unique(places, axis=0, return_index=True)[1])
    return in_first[once], in_second[once]


def _distinct_nearest(squared_distance: np.ndarray) -> np.ndarray:
    """Per row the column of the least entry, or -1 where the second least is not clearly larger."""
    rows, nearest = np.arange(len(squared_distance)), squared_distance.argmin(1)
    least = squared_distance[rows, nearest]
    others = squared_distance.copy()
    others[rows, nearest] = np.inf
    return np.where(least < MAX_DISTANCE_RATIO**2 * others.min(1), nearest, -1)


def choose_pairs(views: int) -> list[tuple[int, int]]:
    """The pairs of views to match: all of up to 8 views, else those 1, 2, 4, 8... apart, which see a path closely
    and from afar at a cost of `views * log2(views)`."""
    distances = range(1, views) if views <= ALL_PAIRS_UP_TO_VIEWS else [2**k for k in range((views - 1).bit_length())]
    return [(i, i + distance) for distance in distances for i in range(views - distance)]
