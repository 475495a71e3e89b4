# SPDX-License-Identifier: Apache-2.0
"""Lenses: where they move what a pinhole camera would see, and images without that.

Pixel edges are at integers, as everywhere here; OpenCV counts from the centres of pixels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from da3_core.errors import InputError

# From the optical axis. Beyond it, a plane shows the scene so stretched that nothing is to be made of it.
WIDEST_HALF_ANGLE = np.deg2rad(80)
FILLED_HALF_ANGLE = np.deg2rad(70)  # where all pixels are to show something, at the cost of the middle's resolution
NO_DISTORTION = 1e-7  # coefficients below it move nothing by a hundredth of a pixel
SMALLEST_RADIUS = 0.25  # of the way to the nearest border: a lens that folds the image nearer than that is none
RADII, AZIMUTHS, ALONG_SIDE = 1025, 16, 64
OUTSIDE = -10_000.0  # pixels; where there is nothing to be seen

LensModel = Literal["polynomial", "fisheye", "fov", "division", "eucm"]


@dataclass(frozen=True)
class Lens:
    """A lens by its coefficients, as COLMAP and OpenCV name them. Without any, it is a pinhole.

    Attributes:
        model: `polynomial` of the radius; `fisheye`, the same of the angle from the axis; `fov` of one `shape`
            parameter, omega; `division` of one, k; `eucm` of two, alpha and beta.
        radial: k1, k2, ... of the second, fourth, ... power.
        denominator: the same, of what the radial part is divided by.
        tangential: p1, p2.
        prism: sx1, sx2, sy1, sy2; OpenCV's s1 to s4.
        stretched_first: tangential and prism parts are those of what the radial part has moved already.
    """

    model: LensModel = "polynomial"
    radial: tuple[float, ...] = ()
    denominator: tuple[float, ...] = ()
    tangential: tuple[float, float] = (0.0, 0.0)
    prism: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    shape: tuple[float, ...] = ()
    stretched_first: bool = False

    @property
    def is_pinhole(self) -> bool:
        coefficients = (*self.radial, *self.denominator, *self.tangential, *self.prism, *self.shape[:1])
        return self.model != "fisheye" and all(abs(each) < NO_DISTORTION for each in coefficients)

    def distort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points `x, y` of the plane at depth 1 are seen, in that plane."""
        if self.model == "division":
            inverse = 0.5 + np.sqrt(np.maximum(0.25 - self.shape[0] * (x * x + y * y), 0))
            return x / inverse, y / inverse
        if self.model == "eucm":
            alpha, beta = self.shape
            depth = 1 - alpha + alpha * np.sqrt(1 + beta * (x * x + y * y))
            return x / depth, y / depth
        radius = np.maximum(np.hypot(x, y), 1e-12)
        if self.model == "fov":
            omega = self.shape[0]
            if abs(omega) < NO_DISTORTION:
                return x, y
            ratio = np.arctan(2 * radius * np.tan(omega / 2)) / (radius * omega)
            return x * ratio, y * ratio
        if self.model == "fisheye":
            x, y, radius = x * np.arctan(radius) / radius, y * np.arctan(radius) / radius, np.arctan(radius)
        return self._distort_polynomial(x, y, radius**2)

    def _distort_polynomial(self, x: np.ndarray, y: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stretch = _one_plus(self.radial, square) / _one_plus(self.denominator, square)
        if self.stretched_first:
            x, y, square, stretch = x * stretch, y * stretch, (x * x + y * y) * stretch**2, np.ones_like(square)
        (p1, p2), (sx1, sx2, sy1, sy2) = self.tangential, self.prism
        return (
            x * stretch + 2 * p1 * x * y + p2 * (square + 2 * x * x) + sx1 * square + sx2 * square**2,
            y * stretch + 2 * p2 * x * y + p1 * (square + 2 * y * y) + sy1 * square + sy2 * square**2,
        )

    def undistort(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `distort`; what lies beyond the edge of the lens becomes its edge."""
        radii, seen = self._profile
        distance = np.maximum(np.hypot(x, y), 1e-12)
        ratio = np.interp(distance, seen, radii) / distance
        found_x, found_y = x * ratio, y * ratio
        for _ in range(20):  # the radial part is right already, the others are small
            seen_x, seen_y = self.distort(found_x, found_y)
            found_x, found_y = found_x + (x - seen_x) * ratio, found_y + (y - seen_y) * ratio
            inside = np.minimum(radii[-1] / np.maximum(np.hypot(found_x, found_y), 1e-12), 1)
            found_x, found_y = found_x * inside, found_y * inside
        return found_x, found_y

    @property
    def edge(self) -> float:
        """Radius in the plane at depth 1 up to which the lens shows every point once, at most `WIDEST_HALF_ANGLE`."""
        return float(self._profile[0][-1])

    @property
    def seen_edge(self) -> float:
        """The radius at which that edge is seen."""
        return float(self._profile[1][-1])

    @cached_property
    def _profile(self) -> tuple[np.ndarray, np.ndarray]:
        """Radii and, growing with them, the radii at which they are seen, averaged over all directions."""
        radii = np.tan(np.linspace(0, WIDEST_HALF_ANGLE, RADII))
        azimuth = np.linspace(0, 2 * np.pi, AZIMUTHS, endpoint=False)
        with np.errstate(all="ignore"):
            x, y = self.distort(radii[:, None] * np.cos(azimuth), radii[:, None] * np.sin(azimuth))
            seen = (x * np.cos(azimuth) + y * np.sin(azimuth)).mean(1)
            grows = np.diff(seen) > 0
        end = RADII if grows.all() else int(np.argmin(grows)) + 1
        return radii[:end], seen[:end]


@dataclass(frozen=True, eq=False)
class Rectification:
    """Turns images of a lens into those of a pinhole camera, of the same size and in the same place.

    Attributes:
        lens: of the camera.
        lens_intrinsics: `(3, 3)` of the images as they are.
        intrinsics: `(3, 3)` of the rectified ones.
        size_hw: of both.
    """

    lens: Lens
    lens_intrinsics: np.ndarray
    intrinsics: np.ndarray
    size_hw: tuple[int, int]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The rectified image; black where the lens shows nothing. The maps are made once."""
        import cv2

        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR))

    @property
    def kept(self) -> float:
        """The share of the image's pixels that the rectified one still shows."""
        height, width = self.size_hw
        u, v = np.meshgrid(width * _middles(ALONG_SIDE), height * _middles(ALONG_SIDE))
        x, y = _to_plane(self.lens_intrinsics, u, v)
        is_lens = np.hypot(x, y) <= self.lens.seen_edge
        u, v = _to_pixels(self.intrinsics, *self.lens.undistort(x, y))
        return float((is_lens & (u >= 0) & (v >= 0) & (u <= width) & (v <= height)).mean())

    def seen_at(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the image shows what the rectified one shows at pixels `u, v`; `OUTSIDE` beyond the lens."""
        x, y = _to_plane(self.intrinsics, u, v)
        seen = _to_pixels(self.lens_intrinsics, *self.lens.distort(x, y))
        beyond = np.hypot(x, y) > max(self.lens.edge, 0) * (1 + 1e-9)
        return np.where(beyond, OUTSIDE, seen[0]), np.where(beyond, OUTSIDE, seen[1])

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        height, width = self.size_hw
        u, v = self.seen_at(*np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5))
        inside = (u >= 0) & (v >= 0) & (u <= width) & (v <= height)
        # The outer half of a border pixel has no other one to be mixed with.
        column = np.where(inside, np.clip(u - 0.5, 0, width - 1), OUTSIDE).astype(np.float32)
        row = np.where(inside, np.clip(v - 0.5, 0, height - 1), OUTSIDE).astype(np.float32)
        whole, fractions = cv2.convertMaps(column, row, cv2.CV_16SC2)
        return np.asarray(whole), np.asarray(fractions)


def rectification(lens: Lens, intrinsics: np.ndarray, size_hw: tuple[int, int], alpha: float) -> Rectification:
    """To the pinhole camera that keeps of the field of view what `alpha` says.

    Args:
        intrinsics: `(3, 3)` of the images as they are.
        alpha: 0 for the widest one whose pixels all show something, up to `FILLED_HALF_ANGLE`; 1 for one that shows
            all, black beyond it, up to `WIDEST_HALF_ANGLE`.

    Raises:
        InputError: the lens shows nearly nothing once.
    """
    height, width = size_hw
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    nearest = 0.5 * min(width / fx, height / fy)
    if lens.seen_edge < SMALLEST_RADIUS * nearest:
        raise InputError(
            f"lens distortion folds the image {lens.seen_edge * fx:.0f} pixels from its centre, which no lens does; "
            "calibrate again"
        )
    along = np.linspace(0, 1, ALONG_SIDE)
    corner, far = 0 * along, 0 * along + 1
    sides = ((corner, along), (far, along), (along, corner), (along, far))  # left, right, top, bottom
    borders = [np.stack(lens.undistort(*_to_plane(intrinsics, width * u, height * v))) for u, v in sides]  # (2, A)
    (left, _), (right, _), (_, top), (_, bottom) = borders
    outer = np.array([[left.min(), right.max()], [top.min(), bottom.max()]])
    (left, _), (right, _), (_, top), (_, bottom) = (
        border * np.minimum(np.tan(FILLED_HALF_ANGLE) / np.hypot(*border), 1) for border in borders
    )
    inner = np.array([[left.max(), right.min()], [top.max(), bottom.min()]])
    size, ratio = np.array([width, height]), np.array([1.0, fy / fx])
    zoomed_in = float((size / ratio / np.maximum(inner[:, 1] - inner[:, 0], 1e-9)).max())
    zoomed_out = float((size / ratio / np.maximum(outer[:, 1] - outer[:, 0], 1e-9)).min())
    centre = (1 - alpha) * inner.mean(1) + alpha * outer.mean(1)
    for zoom in np.geomspace(1, 2, 141):  # the corners of odd lenses may need more than the sides
        focal = zoom * zoomed_in ** (1 - alpha) * zoomed_out**alpha * ratio
        pinhole = np.diag([*focal, 1.0])
        pinhole[:2, 2] = size / 2 - focal * centre
        result = Rectification(lens, intrinsics, pinhole, size_hw)
        if alpha > 0 or _shows_everywhere(result):
            break
    return result


def _shows_everywhere(result: Rectification) -> bool:
    height, width = result.size_hw
    along = _middles(ALONG_SIDE)
    u = np.concatenate([width * along, width * along, 0 * along + 0.5, 0 * along + width - 0.5])
    v = np.concatenate([0 * along + 0.5, 0 * along + height - 0.5, height * along, height * along])
    u, v = result.seen_at(u, v)
    return bool(((u >= 0) & (v >= 0) & (u <= width) & (v <= height)).all())


def _one_plus(coefficients: tuple[float, ...], square: np.ndarray) -> np.ndarray:
    """`1 + k1 square + k2 square² + ...`."""
    result = np.zeros_like(square)
    for coefficient in reversed(coefficients):
        result = square * (coefficient + result)
    return 1 + result


def _to_plane(intrinsics: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return (u - intrinsics[0, 2] - intrinsics[0, 1] * y) / intrinsics[0, 0], y


def _to_pixels(intrinsics: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u = intrinsics[0, 0] * x + intrinsics[0, 1] * y + intrinsics[0, 2]
    return u, intrinsics[1, 1] * y + intrinsics[1, 2]


def _middles(count: int) -> np.ndarray:
    """Of `count` equal parts of 0 to 1."""
    return (np.arange(count) + 0.5) / count
