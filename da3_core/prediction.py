# SPDX-License-Identifier: Apache-2.0
"""What a model returns for a set of views, and nothing about how it was computed.

Conventions, everywhere in `da3_core`:
- `N` views, `H W` pixels of the processed image.
- Camera axes are OpenCV's: x right, y down, z forward. `extrinsics` are world-to-camera.
- `depth` is z-depth, the distance along the optical axis, not the length of the ray.
- Intrinsics are in pixels with pixel *edges* at integers: the centre of pixel `u` is `u + 0.5`. ROS and OpenCV put the
  *centre* of the first pixel at 0 and subtract 0.5 from cx and cy; that happens where files and messages are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch


# Where the intrinsics of a view are from: the caller, the network, or a guess that nothing supports.
IntrinsicsOrigin: TypeAlias = Literal["known", "estimated", "assumed"]

NOTEWORTHY_CROP = 0.1  # share of an image

# The fields of a `Prediction` that hold one entry per view; `aux` may hold more of these, under any name.
PER_VIEW = (
    "depth",
    "conf",
    "sky",
    "extrinsics",
    "intrinsics",
    "intrinsics_source",
    "assumed_intrinsics",
    "processed_images",
    "original_sizes",
    "processed_from_original",
    "image_names",
    "class_tokens",
    "segments",
    "stamps_ns",
)


def of_all_views(source: IntrinsicsOrigin, views: int) -> tuple[IntrinsicsOrigin, ...]:
    """One source of the intrinsics of so many views."""
    return (source,) * views


@dataclass(frozen=True, eq=False)
class Gaussians:
    """3-D Gaussians, one per pixel and view, `G = N*H*W` in (view, row, column) order; tensors on the model's device.

    The world frame and unit are those of the network, before any metric scale or alignment.

    Attributes:
        means: `(1, G, 3)`.
        scales: `(1, G, 3)` standard deviations.
        rotations: `(1, G, 4)` quaternions, scalar first.
        harmonics: `(1, G, 3, 9)` spherical harmonics of degree 2.
        opacities: `(1, G)` in (0, 1).
    """

    means: torch.Tensor
    scales: torch.Tensor
    rotations: torch.Tensor
    harmonics: torch.Tensor
    opacities: torch.Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """Depth, cameras and what else the model knows about `N` views of one scene.

    Attributes:
        depth: `(N, H, W)` float32 z-depth; metres when `is_metric`, else the model's unit.
        is_metric: 1 when `depth` and `extrinsics` are known to be in metres, else 0: also where they took the unit of
            given poses, which only the caller knows.
        conf: `(N, H, W)` float32, at least 1, higher is better, not a probability; None for mono and metric models.
        sky: `(N, H, W)` bool, of models without a sky head what is far beyond the scene; None where there is none.
        extrinsics: `(N, 4, 4)` float32 world-to-camera, NaN for a view that could not be placed; None where no poses
            are known.
        intrinsics: `(N, 3, 3)` float32, pixels of the processed image, given or estimated; None where unknown.
        intrinsics_source: of every view, where its intrinsics are from; None where there are none, not even assumed.
        assumed_intrinsics: `(N, 3, 3)` float32 in place of `intrinsics` where those of a view had to be assumed to find
            poses; who needs a camera takes `usable_intrinsics`.
        processed_images: `(N, H, W, 3)` uint8 RGB, the pixels that the network saw.
        gaussians: 3-D Gaussians, when asked for and the model has them.
        aux: everything else by name: `feat_layer_<i>` `(N, H/14, W/14, C)` float32; with given poses `pose_alignment`
            (a `TrajectoryAlignment`) and `estimated_extrinsics`; with given intrinsics `estimated_intrinsics`;
            `feature_poses` (a `FeaturePoses`) where cameras were sought by matching features;
            `raw_depth` of a metric model whose depth was brought to metres.
        scale_factor: metres per network unit that nested models found and already applied; else None.
        original_sizes: `(N, 2)` int64, height and width of the images as given.
        processed_from_original: `(N, 3, 3)` float64, takes pixel coordinates of an image as given to the processed
            image (a scale and a crop), so `K_processed = processed_from_original @ K_original`.
        image_names: `N` file paths or names; None unless every image has one.
        class_tokens: `(N, C)` float32, what each view looks like as a whole, by which places are recognised; None where
            the model tells none.
        segments: `(N,)` int64, the number of the map that a view is placed in, -1 for a view that could not be placed.
            Every map has a world and a unit of its own. None where all views are in one, if there are poses at all.
        stamps_ns: `(N,)` int64 times of exposure, nanoseconds since any moment; None where one is unknown.
        world: the axes that poses are in: `first_camera`, those of the first view of a map (or of the network's
            choice); `input`, those of the given extrinsics; or the name of a ROS frame (x forward, y left, z up).
    """

    depth: np.ndarray
    is_metric: int = 0
    conf: np.ndarray | None = None
    sky: np.ndarray | None = None
    extrinsics: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    intrinsics_source: tuple[IntrinsicsOrigin, ...] | None = None
    assumed_intrinsics: np.ndarray | None = None
    processed_images: np.ndarray | None = None
    gaussians: Gaussians | None = None
    aux: dict[str, Any] = field(default_factory=dict)
    scale_factor: float | None = None
    original_sizes: np.ndarray | None = None
    processed_from_original: np.ndarray | None = None
    image_names: tuple[str, ...] | None = None
    class_tokens: np.ndarray | None = None
    segments: np.ndarray | None = None
    stamps_ns: np.ndarray | None = None
    world: str = "first_camera"

    @property
    def placed(self) -> np.ndarray:
        """`(N,)` bool: which views have a pose."""
        if self.extrinsics is None:
            return np.zeros(len(self.depth), bool)
        return np.ones(len(self.depth), bool) if self.segments is None else np.asarray(self.segments >= 0)

    @property
    def has_depth(self) -> np.ndarray:
        """`(N,)` bool, false for views whose depth is NaN all over."""
        known = ~np.isnan(self.depth[:, ::16, ::16]).all(axis=(1, 2))  # of most views a look at a few pixels tells
        for i in np.flatnonzero(~known):
            known[i] = not np.isnan(self.depth[i]).all()
        return np.asarray(known)

    @property
    def maps(self) -> list[np.ndarray]:
        """The numbers of the views of each map, the largest map first; empty where no view has a pose."""
        if self.segments is None or self.extrinsics is None:
            return [] if self.extrinsics is None else [np.arange(len(self.depth))]
        maps = [np.flatnonzero(self.segments == segment) for segment in np.unique(self.segments[self.placed])]
        return sorted(maps, key=len, reverse=True)

    @property
    def usable_intrinsics(self) -> np.ndarray | None:
        """`(N, 3, 3)` float32 for what cannot do without a camera: `intrinsics`, else assumed ones, else None."""
        return self.assumed_intrinsics if self.intrinsics is None else self.intrinsics

    def cropped(self) -> str | None:
        """A sentence about views that lost much of themselves to have one size with the others; None without any."""
        if self.original_sizes is None or self.processed_from_original is None:
            return None
        resize = self.processed_from_original[:, [1, 0], [1, 0]]  # of heights and widths
        kept = np.prod(self.depth.shape[1:]) / (resize * self.original_sizes).prod(axis=1)
        if kept.min() >= 1 - NOTEWORTHY_CROP:
            return None
        return (
            f"The images differ in shape, so each was cropped to the middle that all have: of some, {kept.min():.0%} "
            "is left. Process portraits and landscapes apart to keep them whole."
        )

    def original_intrinsics(self) -> np.ndarray | None:
        """`(N, 3, 3)` float64 intrinsics in pixels of the images as given, or None where the model knows none."""
        if self.intrinsics is None or self.processed_from_original is None:
            return None
        return np.linalg.inv(self.processed_from_original) @ self.intrinsics.astype(np.float64)

    def views(self, chosen: slice | np.ndarray) -> Prediction:
        """Some of the views, a slice or their numbers, without Gaussians and `aux`, which may speak of all of them."""
        numbers = np.arange(len(self.depth))[chosen]
        some: dict[str, Any] = {}
        for name in PER_VIEW:
            value = getattr(self, name)
            is_listed = isinstance(value, tuple)
            some[name] = (
                tuple(value[number] for number in numbers) if is_listed else None if value is None else value[chosen]
            )
        return replace(self, gaussians=None, aux={}, **some)
