# SPDX-License-Identifier: Apache-2.0
"""Cameras from ray maps: a homography from a unit camera to the directions, found by RANSAC, holds the rotation and
the intrinsics; the origins hold the position.

The same rays always give the same cameras: the samples are drawn from a generator of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from da3_core.network.camera import invert_rigid
from da3_core.network.config import Size

_HYPOTHESES, _SAMPLE = 100, 8
_CONFIDENT_SHARE = 0.3
_INLIER_ERROR = 0.2  # in half image sides
_MAX_REFIT, _REFIT_SHARE = 8000, 0.95
_MIN_FORWARD = 1e-4
_HYPOTHESES_AT_A_TIME = 10
_MIN_REFIT = 4


def cameras_from_rays(rays: Tensor, confidence: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
    """World-to-camera transforms (B, N, 3, 4) and intrinsics (B, N, 3, 3) in pixels of the image.

    Args:
        rays: (B, N, h, w, 6), direction and origin in the world frame.
        confidence: (B, N, h, w).
        image_size: height and width of the image in pixels.
    """
    batch, views, height, width = confidence.shape
    device = rays.device
    if device.type == "mps":  # has no float64
        rays, confidence = rays.cpu(), confidence.cpu()
    generator = torch.Generator().manual_seed(0)
    samples = draw_samples(height * width, generator).to(rays.device)
    poses, focals, centres = zip(
        *(
            solve_view(view.flatten(0, 1), weight.flatten(), (height, width), samples, generator)
            for view, weight in zip(rays.flatten(0, 1), confidence.flatten(0, 1), strict=True)
        ),
        strict=True,
    )
    half_size = torch.tensor(image_size[::-1], device=rays.device) / 2
    focal, centre = torch.stack(focals) * half_size, torch.stack(centres) * half_size
    intrinsics = torch.cat((torch.diag_embed(focal), centre[..., None]), dim=-1)
    intrinsics = torch.cat((intrinsics, intrinsics.new_tensor([0.0, 0.0, 1.0]).expand(len(focal), 1, 3)), dim=1)
    extrinsics = invert_rigid(torch.stack(poses))
    extrinsics, intrinsics = (x.unflatten(0, (batch, views)).to(device, rays.dtype) for x in (extrinsics, intrinsics))
    return extrinsics, intrinsics


def draw_samples(rays: int, generator: torch.Generator) -> Tensor:
    """Ranks (hypotheses, 8) among the most confident rays of a view."""
    candidates = max(_SAMPLE, int(_CONFIDENT_SHARE * rays))
    return torch.stack([torch.randperm(candidates, generator=generator)[:_SAMPLE] for _ in range(_HYPOTHESES)])


def solve_view(
    rays: Tensor, weight: Tensor, size: Size, samples: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Camera-to-world pose (3, 4), focal lengths and principal point (2,) in half images, from rays (h*w, 6)."""
    direction, origin = rays.double().split(3, dim=-1)
    forward = direction[:, 2].abs() > _MIN_FORWARD
    target = torch.where(forward[:, None], direction[:, :2] / direction[:, 2:], direction[:, :2])
    weight = torch.where(forward, weight.double(), 0.0)
    source = pixel_grid(*size).to(target)

    ranked = weight.argsort(descending=True)
    chosen = ranked[samples]
    hypotheses = fit_homography(source[chosen], target[chosen], weight[chosen])
    inliers = [find_inliers(part, source, target) for part in hypotheses.split(_HYPOTHESES_AT_A_TIME)]
    score = torch.cat([part.double() @ weight for part in inliers])
    best = int(score.argmax())
    ranked = ranked[torch.cat(inliers)[best][ranked]]
    if len(ranked) > _MAX_REFIT:
        kept = max(int(_REFIT_SHARE * len(ranked)), _MAX_REFIT)
        ranked = ranked[torch.randperm(kept, generator=generator)[:_MAX_REFIT].to(ranked.device)]
    homography = hypotheses[best]
    if len(ranked) >= _MIN_REFIT:
        homography = fit_homography(source[ranked], target[ranked], weight[ranked])

    rotation, calibration = ql(torch.where(torch.det(homography) < 0, -homography, homography))
    position = (weight @ origin) / weight.sum()
    pose = torch.cat((rotation, position[:, None]), dim=-1)
    return pose, 1 / calibration.diagonal()[:2], calibration[2, :2] + 1


def pixel_grid(height: int, width: int) -> Tensor:
    """Pixel centres (h*w, 2) as x, y from -1 to 1 over the image."""
    y, x = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in (height, width))
    return torch.cartesian_prod(y, x).flip(-1)


def fit_homography(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Homographies (..., 3, 3) from points (..., n, 2) to points (..., n, 2), by the direct linear transform.

    The smallest eigenvector of the 9 x 9 normal matrix is the last right singular vector of the equations.
    """
    point = F.pad(source, (0, 1), value=1.0)
    zero = torch.zeros_like(point)
    equations = torch.cat(
        (
            torch.cat((-point, zero, point * target[..., :1]), dim=-1),
            torch.cat((zero, -point, point * target[..., 1:]), dim=-1),
        ),
        dim=-2,
    )
    weighted = equations * torch.cat((weight, weight), dim=-1)[..., None]
    homography = torch.linalg.eigh(equations.mT @ weighted).eigenvectors[..., 0].unflatten(-1, (3, 3))
    return homography / homography[..., 2:, 2:]


def find_inliers(homographies: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Which source points (n, 2) each of the homographies (k, 3, 3) takes close to their target: (k, n) bool."""
    projected = F.pad(source, (0, 1), value=1.0) @ homographies.mT
    return (projected[..., :2] / projected[..., 2:] - target).norm(dim=-1) < _INLIER_ERROR


def ql(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """An orthogonal and a lower triangular factor of a (3, 3) matrix, the latter with 1 in its corner.

    With the principal point off the centre a QR factorisation would be the right one. The published poses were made
    with this one.
    """
    q, r = torch.linalg.qr(matrix.flip(1))
    q, lower = q.flip(1), r.flip(0, 1)
    sign = torch.where(lower.diagonal() < 0, -1.0, 1.0)
    lower = lower * sign[:, None]
    return q * sign, lower / lower[2, 2]
