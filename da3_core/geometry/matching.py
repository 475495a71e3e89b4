# SPDX-License-Identifier: Apache-2.0
"""Which pixels of two images show the same point: SIFT features and the matches between them. Deterministic."""

from dataclasses import dataclass

import numpy as np

MAX_FEATURES = 1000
CONTRAST_THRESHOLD = 0.01  # a quarter of OpenCV's default: walls and floors have few strong corners
MAX_DISTANCE_RATIO = 0.8  # nearest to second nearest descriptor, Lowe 2004
ALL_PAIRS_UP_TO_VIEWS = 8


@dataclass(frozen=True, eq=False)
class Features:
    """`K` features of one image: `pixels` `(K, 2)` float64 x y, pixel edges at integers; `descriptors` `(K, 128)`
    float32 of length 1."""

    pixels: np.ndarray
    descriptors: np.ndarray


def detect_features(image: np.ndarray) -> Features:
    """SIFT features of an `(H, W, 3)` uint8 RGB image, strongest first.

    D. Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004. Descriptors are compared by the
    Hellinger kernel (R. Arandjelović and A. Zisserman, Three Things Everyone Should Know to Improve Object
    Retrieval, CVPR 2012).
    """
    import cv2

    sift = cv2.SIFT.create(MAX_FEATURES, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    if descriptors is None:
        return Features(np.empty((0, 2)), np.empty((0, 128), np.float32))
    pixels = np.array([keypoint.pt for keypoint in keypoints], np.float64) + 0.5
    shares = descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1)
    return Features(pixels, np.sqrt(shares, dtype=np.float32))


def match_features(first: Features, second: Features) -> tuple[np.ndarray, np.ndarray]:
    """Indices `(M,)` and `(M,)` of features that are each other's nearest, and clearly nearer than the next one."""
    if min(len(first.pixels), len(second.pixels)) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    squared_distance = np.maximum(2 - 2 * first.descriptors @ second.descriptors.T, 0)
    forward = _distinct_nearest(squared_distance)
    in_first = np.flatnonzero(forward >= 0)
    in_second = forward[in_first]
    mutual = _distinct_nearest(squared_distance.T[in_second]) == in_first
    return in_first[mutual], in_second[mutual]


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
