# SPDX-License-Identifier: Apache-2.0
"""The rasteriser of the optional package gsplat, for CUDA; `torch_rasterizer` is its twin for every device."""

from torch import Tensor


def rasterize(
    means: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    harmonics: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    """See `torch_rasterizer.rasterize`."""
    from gsplat import rasterization

    degree = {1: 0, 4: 1, 9: 2}[harmonics.shape[1]]
    colors, alphas, _ = rasterization(
        means,
        rotations,
        scales,
        opacities,
        harmonics,
        world_to_camera,
        intrinsics,
        width,
        height,
        sh_degree=degree,
        render_mode="RGB+D",
        packed=False,
    )
    return colors, alphas[..., 0]
