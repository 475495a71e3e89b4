# SPDX-License-Identifier: Apache-2.0
"""3-D Gaussians: one per pixel, from a dense head, the depth map and the cameras."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_core.network.camera import invert_rigid, matrix_from_quaternion, quaternion_from_matrix
from da3_core.network.config import HeadConfig, Size, image_size_of
from da3_core.network.dpt import Dpt, add_uv, value_head

_RAW = (2, 3, 4, 27, 1)  # offset in pixels, scales, quaternion x y z w, 3 x 9 harmonics, depth offset
_MIN_SCALE, _MAX_SCALE = 1e-5, 30.0
_PIXEL_SHARE = 0.1
_HARMONIC_WEIGHTS = (1.0, *3 * (0.025,), *5 * (0.00625,))
_SCALE_RANGE = (1 / 3, 3.0)
_RANK_EPS = 2.2e-16
_SQRT3 = 3**0.5


class GaussianDpt(Dpt):
    """What a Gaussian differs by from the depth pixel it sits on."""

    def __init__(self, inputs: int, config: HeadConfig) -> None:
        super().__init__(inputs, config, embeds_uv=True)
        widths = (3, 32, 64, config.features // 2)
        layers = [(nn.Conv2d(a, b, 3, padding=1), nn.GELU()) for a, b in pairwise(widths)]
        self.images_merger = nn.Sequential(*(module for layer in layers for module in layer))
        self.scratch["output_conv2"] = value_head(config.features // 2, outputs=sum(_RAW) + 1)

    def output_names(self) -> tuple[str, ...]:
        """What `forward` returns."""
        return "raw", "opacity"

    def forward(self, *maps_and_images: Tensor, grid: Size) -> dict[str, Tensor]:
        """Four token maps (V, P, D) and the images (V, 3, H, W) to `raw` (V, H, W, 37) and `opacity` (V, H, W)."""
        *maps, images = maps_and_images
        image_size = image_size_of(grid)
        neck = self.neck(self.pyramid(maps, grid), image_size) + self.images_merger(images)
        values = self.scratch["output_conv2"](add_uv(neck, image_size)).movedim(1, -1)
        return {"raw": values[..., :-1], "opacity": values[..., -1].sigmoid()}


def place_gaussians(
    raw: Tensor,
    opacity: Tensor,
    depth: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    given_world_to_camera: Tensor | None = None,
) -> dict[str, Tensor]:
    """Gaussians in the world frame of the predicted cameras, in (view, row, column) order.

    Two things look wrong and are what the head was trained with: depth is taken as the length of the ray, and the
    components of a quaternion change places on the way in and out.

    Args:
        raw: (B, N, H, W, 37) and `opacity` (B, N, H, W), from the head.
        depth: (B, N, H, W).
        world_to_camera: (B, N, 3, 4), `intrinsics` (B, N, 3, 3) in pixels, both as predicted.
        given_world_to_camera: (B, N, 3 or 4, 4), known cameras whose scale the Gaussians take on.

    Returns:
        `means` (B, G, 3), `scales` (B, G, 3), `rotations` (B, G, 4) scalar first, `harmonics` (B, G, 3, 9),
        `opacities` (B, G) with G = N * H * W.
    """
    height, width = depth.shape[2:]
    offset, scales, quaternion, harmonics, depth_offset = raw.split(_RAW, dim=-1)  # (B, N, H, W, 2 3 4 27 1)
    depth = depth + depth_offset.squeeze(-1)  # (B, N, H, W)
    rotation, centre = invert_rigid(world_to_camera).split((3, 1), dim=-1)  # (B, N, 3, 3), (B, N, 3, 1)
    if given_world_to_camera is not None and not torch.equal(given_world_to_camera[..., :3, :], world_to_camera):
        given_centre = invert_rigid(given_world_to_camera)[..., 3]
        scale = torch.stack([path_scale(a, b) for a, b in zip(centre.squeeze(-1), given_centre, strict=True)])
        centre, depth = centre * scale[:, None, None, None], depth * scale[:, None, None, None]

    pixels = torch.stack(
        torch.meshgrid(
            torch.arange(width, device=raw.device) + 0.5, torch.arange(height, device=raw.device) + 0.5, indexing="xy"
        ),
        dim=-1,
    )  # (H, W, 2)
    # (B, N, H * W, 3), in the world
    rays = F.pad(pixels + offset, (0, 1), value=1.0).flatten(2, 3) @ (rotation @ intrinsics.inverse()).mT
    means = centre.mT + F.normalize(rays, dim=-1) * depth.flatten(2)[..., None]  # (B, N, H * W, 3)

    focal = torch.stack((intrinsics[..., 0, 0], intrinsics[..., 1, 1]), dim=-1)  # (B, N, 2)
    extent = _MIN_SCALE + (_MAX_SCALE - _MIN_SCALE) * scales.sigmoid()  # (B, N, H, W, 3), in pixels, then in the world
    extent = extent * (depth * _PIXEL_SHARE * (1 / focal).sum(dim=-1)[..., None, None])[..., None]

    unit = quaternion / (quaternion.norm(dim=-1, keepdim=True) + 1e-8)  # (B, N, H, W, 4)
    turned = torch.einsum("bnij,bnhwjk->bnhwik", rotation, matrix_from_quaternion(unit.roll(1, dims=-1)))
    # (B, N, H, W, 3, 9)
    weighted = harmonics.unflatten(-1, (3, 9)) * torch.tensor(_HARMONIC_WEIGHTS, device=raw.device)
    return {
        "means": means.flatten(1, 2),
        "scales": extent.flatten(1, 3),
        "rotations": quaternion_from_matrix(turned).flatten(1, 3),
        "harmonics": rotate_harmonics(weighted.flatten(2, 4), rotation).unflatten(2, (-1, 3)).flatten(1, 2),
        "opacities": opacity.flatten(1),
    }


def rotate_harmonics(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Real spherical harmonics (..., k, 9) of degree 2, in 3-D Gaussian splatting's order, turned by (..., 3, 3).

    The matrix of a degree takes the basis at some directions to the basis at the turned directions.
    """
    constant, linear, quadratic = coefficients.split((1, 3, 5), dim=-1)
    directions = torch.tensor(
        [[1, 0, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=rotation.dtype, device=rotation.device
    )
    turned = directions @ rotation.mT
    first = torch.linalg.solve(_degree_1(directions[[0, 1, 4]]), _degree_1(turned[..., [0, 1, 4], :]))
    second = torch.linalg.solve(_degree_2(directions), _degree_2(turned))
    return torch.cat((constant, linear @ first, quadratic @ second), dim=-1)


def _degree_1(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    return torch.stack((-y, z, -x), dim=-1)


def _degree_2(v: Tensor) -> Tensor:
    x, y, z = v.unbind(-1)
    terms = (
        _SQRT3 * x * y,
        -_SQRT3 * y * z,
        z * z - (x * x + y * y) / 2,
        -_SQRT3 * x * z,
        _SQRT3 / 2 * (x * x - y * y),
    )
    return torch.stack(terms, dim=-1)


def path_scale(centres: Tensor, reference: Tensor) -> Tensor:
    """Scale that takes camera centres (N, 3) to reference centres (Umeyama 1991), kept within a factor of three.

    1 where the centres are too few or too close to a point to tell.
    """
    x, y = (c - c.mean(dim=0) for c in (centres.cpu().double(), reference.cpu().double()))
    left, singular, right = torch.linalg.svd(y.mT @ x / len(x))
    if int((singular > _RANK_EPS).sum()) < 2:
        return centres.new_ones(())
    sign = torch.det(left) * torch.det(right)
    trace = singular[0] + singular[1] + torch.where(sign < 0, -singular[2], singular[2])
    return (trace / x.square().sum(dim=1).mean()).clamp(*_SCALE_RANGE).to(centres)
