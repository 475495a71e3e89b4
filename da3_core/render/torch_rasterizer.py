# SPDX-License-Identifier: Apache-2.0
"""Gaussian splatting in plain torch, on any device: what gsplat computes on CUDA, tile by tile and without gradients.

B. Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, SIGGRAPH 2023.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_core.render.harmonics import view_dependent_colors

TILE = 8  # pixels at each side
CHUNK = 32  # Gaussians composited at once in every tile
_TILES_AT_ONCE = 128  # what fits into a CPU's second-level cache
NEAR_PLANE = 0.01
LOW_PASS = 0.3  # variance in square pixels added to every splat, about a pixel's own extent
SMALLEST_ALPHA = 1 / 255
LARGEST_ALPHA = 0.999
OPAQUE = 1e-4  # a pixel that lets less light through is finished


@dataclass(frozen=True, eq=False)
class _Splats:
    """Visible Gaussians on the image plane, nearest first.

    Attributes:
        table: `(S, 10)`: centre x y; lower Cholesky factor a b c of half the inverse covariance, so that
            `exp(-((a dx + b dy)² + (c dy)²))` is the falloff; logarithm of the opacity; red, green, blue, depth.
        extent: `(S, 2)` pixels from the centre, x and y, beyond which alpha is below `SMALLEST_ALPHA`.
    """

    table: Tensor
    extent: Tensor


@torch.no_grad()
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
    """Renders `G` Gaussians before a black background into `V` cameras, all tensors float32 on one device.

    Args:
        means: `(G, 3)` in the world.
        rotations: `(G, 4)` quaternions, scalar first, of any length but 0.
        scales: `(G, 3)` standard deviations.
        opacities: `(G,)`.
        harmonics: `(G, d, 3)` spherical harmonics.
        world_to_camera: `(V, 4, 4)`, OpenCV axes.
        intrinsics: `(V, 3, 3)` pixels of the output, pixel edges at integers.

    Returns:
        colours `(V, H, W, 4)`: red, green, blue and depth, each weighted by alpha and summed; alpha `(V, H, W)`.
    """
    covariances = _covariances(rotations, scales)
    images, alphas = [], []
    for camera, matrix in zip(world_to_camera, intrinsics, strict=True):
        centre = -(camera[:3, :3].T @ camera[:3, 3])
        colors = view_dependent_colors(harmonics, means - centre)
        splats = _project(means, covariances, opacities, colors, camera, matrix, height, width)
        image, alpha = _composite(splats, height, width)
        images.append(image)
        alphas.append(alpha)
    return torch.stack(images), torch.stack(alphas)


def _covariances(rotations: Tensor, scales: Tensor) -> Tensor:
    """`(G, 3, 3)`."""
    w, x, y, z = torch.nn.functional.normalize(rotations, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    axes = torch.stack([torch.stack(row, -1) for row in rows], -2) * scales[:, None, :]
    return axes @ axes.mT


def _project(
    means: Tensor,
    covariances: Tensor,
    opacities: Tensor,
    colors: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    height: int,
    width: int,
) -> _Splats:
    """M. Zwicker et al., EWA Volume Splatting, 2001: the covariance through the projection's linear part."""
    rotation = world_to_camera[:3, :3]
    x, y, z = (means @ rotation.T + world_to_camera[:3, 3]).unbind(-1)
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    u, v = fx * x / z + cx, fy * y / z + cy

    # Far outside the image the linear part goes wild: it is taken at most 30 % of half the field of view outside.
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    tx = z * torch.clamp(x / z, -cx / fx - margin_x, (width - cx) / fx + margin_x)
    ty = z * torch.clamp(y / z, -cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    rows = [[fx / z, zero, -fx * tx / z**2], [zero, fy / z, -fy * ty / z**2]]
    jacobian = torch.stack([torch.stack(row, -1) for row in rows], -2) @ rotation
    covariance = jacobian @ covariances @ jacobian.mT
    xx, xy, yy = covariance[:, 0, 0] + LOW_PASS, covariance[:, 0, 1], covariance[:, 1, 1] + LOW_PASS

    reach = torch.sqrt(2 * torch.log(opacities / SMALLEST_ALPHA).clamp(min=0))
    extent = torch.stack([reach * torch.sqrt(xx), reach * torch.sqrt(yy)], -1)
    determinant = xx * yy - xy**2
    inside = (u + extent[:, 0] > 0) & (u - extent[:, 0] < width) & (v + extent[:, 1] > 0) & (v - extent[:, 1] < height)
    visible = torch.nonzero(inside & (z > NEAR_PLANE) & (determinant > 0) & (reach > 0)).squeeze(-1)
    order = visible[torch.argsort(z[visible])]

    a = torch.sqrt(0.5 * yy / determinant)
    b = -xy * 0.5 / determinant / a
    c = torch.sqrt(0.5 / yy)
    columns = [u, v, a, b, c, torch.log(opacities), *colors.unbind(-1), z]
    return _Splats(torch.stack([column[order] for column in columns], -1), extent[order])


def _composite(splats: _Splats, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blends front to back, `(H, W, 4)` and alpha `(H, W)`: all tiles at once, `CHUNK` Gaussians further each round."""
    device = splats.table.device
    across, down = -(-width // TILE), -(-height // TILE)
    members, starts, ends = _tile_lists(splats, across, down)
    corner = torch.stack(torch.meshgrid(torch.arange(across), torch.arange(down), indexing="xy"), -1).reshape(-1, 2)
    corner = (corner * TILE).to(device)
    light = torch.ones(len(corner), TILE * TILE, device=device)
    image = torch.zeros(len(corner), 4, TILE * TILE, device=device)

    active = torch.nonzero(starts < ends).squeeze(-1)
    while len(active):
        for tiles in torch.split(active, _TILES_AT_ONCE):
            slots = starts[tiles, None] + torch.arange(CHUNK, device=device)
            rows = splats.table[members[slots.clamp(max=len(members) - 1)]]
            alpha = _falloff(rows, corner[tiles]) * (slots < ends[tiles, None])[..., None]
            passed = torch.cumprod(1 - alpha, dim=1)
            weight = alpha * light[tiles, None]
            weight[:, 1:] *= passed[:, :-1]
            image[tiles] += rows[..., 6:].mT @ weight
            light[tiles] *= passed[:, -1]
        starts = starts + CHUNK
        active = active[(starts[active] < ends[active]) & (light[active].amax(-1) > OPAQUE)]

    pixels = torch.cat([image, 1 - light[:, None]], dim=1).reshape(down, across, 5, TILE, TILE)
    pixels = pixels.permute(0, 3, 1, 4, 2).reshape(down * TILE, across * TILE, 5)[:height, :width]
    return pixels[..., :4], pixels[..., 4]


def _falloff(rows: Tensor, corner: Tensor) -> Tensor:
    """Alpha `(T, K, TILE²)` of K Gaussians `(T, K, 10)` at the pixels of T tiles with upper left `corner` `(T, 2)`."""
    centres = torch.arange(TILE, device=rows.device) + 0.5
    x, y = (corner[:, None] - rows[..., :2]).unbind(-1)  # the tile as the Gaussian sees it
    a, b, c, log_opacity = (rows[..., i, None] for i in (2, 3, 4, 5))
    dx, dy = x[..., None] + centres, y[..., None] + centres  # (T, K, TILE)
    first = (b * dy)[..., None] + (a * dx)[..., None, :]  # (T, K, TILE, TILE)
    rest = (log_opacity - (c * dy) ** 2)[..., None]
    # Bounded below, for arithmetic with numbers next to zero is slow.
    alpha = torch.addcmul(rest, first, first, value=-1).clamp_(min=-10).exp_().clamp_(max=LARGEST_ALPHA)
    return torch.nn.functional.threshold(alpha, SMALLEST_ALPHA, 0.0, inplace=True).flatten(-2)


def _tile_lists(splats: _Splats, across: int, down: int) -> tuple[Tensor, Tensor, Tensor]:
    """The splats that reach each tile, nearest first: all lists in one `(P,)`, and the start and end of each tile's."""
    centre = splats.table[:, :2]
    limit = torch.tensor([across, down], device=centre.device) - 1
    first = torch.floor((centre - splats.extent) / TILE).long().clamp(min=0).minimum(limit)
    last = torch.floor((centre + splats.extent) / TILE).long().clamp(min=0).minimum(limit)
    columns, rows = (last - first + 1).unbind(-1)
    counts = columns * rows

    splat = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    number = torch.arange(len(splat), device=splat.device) - (counts.cumsum(0) - counts)[splat]
    tile = (first[splat, 1] + number // columns[splat]) * across + first[splat, 0] + number % columns[splat]
    tile, order = torch.sort(tile, stable=True)
    ends = torch.bincount(tile, minlength=across * down).cumsum(0)
    return splat[order], torch.cat([ends.new_zeros(1), ends[:-1]]), ends
