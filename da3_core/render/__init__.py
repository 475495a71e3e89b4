# SPDX-License-Identifier: Apache-2.0
"""Images of 3-D Gaussians from any camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from da3_core.prediction import Gaussians


@dataclass(frozen=True, eq=False)
class Rendering:
    """One image before a black background.

    Attributes:
        color: `(H, W, 3)` float32, from 0, 1 is full intensity.
        accumulated_depth: `(H, W)` float32 z-depth of the Gaussians, weighted by their alpha and summed.
        alpha: `(H, W)` float32, share of light that the Gaussians stop.
    """

    color: np.ndarray
    accumulated_depth: np.ndarray
    alpha: np.ndarray

    def expected_depth(self) -> np.ndarray:
        """`(H, W)` float32 mean depth of what is seen; 0 where nothing is."""
        seen = self.alpha > 1e-10
        return np.asarray(np.divide(self.accumulated_depth, self.alpha, out=np.zeros_like(self.alpha), where=seen))


def has_fast_rasterizer(gaussians: Gaussians) -> bool:
    """Whether gsplat can draw them: they are on a CUDA device and the package is installed."""
    return gaussians.means.is_cuda and find_spec("gsplat") is not None


def render(
    gaussians: Gaussians,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    *,
    views_at_once: int = 4,
) -> Iterator[Rendering]:
    """Images of the Gaussians from `V` cameras, one after the other, computed where the Gaussians are.

    Args:
        gaussians: of one scene.
        world_to_camera: `(V, 4, 4)`, in the frame and the unit of the Gaussians.
        intrinsics: `(V, 3, 3)` in pixels of the images.
        size: height and width of the images.
        views_at_once: more take more memory and, on CUDA, less time.
    """
    import torch

    if has_fast_rasterizer(gaussians):
        from da3_core.render.gsplat_rasterizer import rasterize
    else:
        from da3_core.render.torch_rasterizer import rasterize

    device = gaussians.means.device
    for start in range(0, len(world_to_camera), views_at_once):
        part = slice(start, start + views_at_once)
        with torch.no_grad():
            colors, alphas = rasterize(
                gaussians.means[0].float(),
                gaussians.rotations[0].float(),
                gaussians.scales[0].float(),
                gaussians.opacities[0].float(),
                gaussians.harmonics[0].float().mT.contiguous(),
                torch.as_tensor(world_to_camera[part], dtype=torch.float32, device=device),
                torch.as_tensor(intrinsics[part], dtype=torch.float32, device=device),
                *size,
            )
        for color, alpha in zip(colors.cpu().numpy(), alphas.cpu().numpy(), strict=True):
            yield Rendering(color[..., :3], color[..., 3], alpha)
