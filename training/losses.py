# SPDX-License-Identifier: Apache-2.0
"""What the network is to predict for a batch of scenes, and how far off it is.

The world is the camera frame of the first view, its unit the mean distance of all points from that camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from da3_core.network.camera import quaternion_from_matrix

WEIGHTS = {
    "depth": 1.0, "scale": 0.2, "gradient": 0.5, "confidence": 0.2, "sky": 0.2, "direction": 0.3, "origin": 0.3,
    "translation": 0.3, "rotation": 0.5, "focal": 0.3,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Targets:
    """The truth for B scenes of N views.

    Attributes:
        depth: (B, N, H, W) in units of the scene, 0 in the sky, negative where a thing is too far to count.
        rotation, translation: (B, N, 3, 3) and (B, N, 3) camera to world.
        focal: (B,) in pixels.
        image: height and width of the images in pixels.
    """

    depth: Tensor
    rotation: Tensor
    translation: Tensor
    focal: Tensor
    image: tuple[int, int]

    @classmethod
    def of(cls, depth_m: Tensor, camera_to_world: Tensor, intrinsics: Tensor) -> Targets:
        """From depth (B, N, H, W) in metres, poses (B, N, 4, 4) and intrinsics (B, 3, 3), centre in the middle."""
        height, width = depth_m.shape[-2:]
        relative = torch.linalg.inv(camera_to_world[:, :1]) @ camera_to_world
        rotation, translation = relative[..., :3, :3], relative[..., :3, 3]
        focal = intrinsics[:, 0, 0]
        points = (
            translation[:, :, None, None]
            + _rays(rotation, focal, (height, width), (height, width)) * depth_m[..., None]
        )
        there = depth_m > 0
        unit = (points.norm(dim=-1) * there).sum((1, 2, 3)) / there.sum((1, 2, 3)).clamp(min=1)
        unit = unit.clamp(min=1e-3)[:, None]
        return cls(depth_m / unit[..., None, None], rotation, translation / unit[..., None], focal, (height, width))

    def rays(self, size: tuple[int, int]) -> Tensor:
        """Directions (B, N, h, w, 3) in the world, with unit z in camera axes, of a map over the image."""
        return _rays(self.rotation, self.focal, self.image, size)

    def thinned(self, every: int) -> Targets:
        """Depth in every `every`-th row and column only."""
        return replace(self, depth=self.depth[..., ::every, ::every])


def _rays(rotation: Tensor, focal: Tensor, image: tuple[int, int], size: tuple[int, int]) -> Tensor:
    v = (torch.arange(size[0]) + 0.5) * image[0] / size[0] - image[0] / 2
    u = (torch.arange(size[1]) + 0.5) * image[1] / size[1] - image[1] / 2
    plane = torch.stack([*torch.meshgrid(u, v, indexing="xy"), torch.ones(size)], dim=-1)
    scale = torch.stack([1 / focal, 1 / focal, torch.ones_like(focal)], dim=-1)
    return torch.einsum("bnij,bhwj->bnhwi", rotation, plane[None] * scale[:, None, None])


def losses(output: dict[str, Tensor], cameras: Tensor, truth: Targets) -> dict[str, Tensor]:
    """All losses by name; `cameras` (B, N, 9) is the pose encoding of the decoder."""
    there = truth.depth > 0
    count = there.sum().clamp(min=1)
    predicted = torch.log(output["depth"])
    error = (predicted - torch.log(truth.depth.clamp(min=1e-3))) * there
    middle = torch.stack(
        [e[t].median() if t.any() else e.sum() * 0 for e, t in zip(error.detach(), there, strict=True)]
    )
    aligned = (error - middle[:, None, None, None]) * there
    size = aligned.abs()
    confidence = output["depth_conf"]
    found = {
        "depth": size.sum() / count,
        "scale": (error.abs().sum() / count).clamp(max=2),
        "gradient": _gradient(error, there),
        "confidence": ((confidence * size.detach() - 0.5 * torch.log(confidence)) * there).sum() / count,
        "sky": _sky(output["sky"], truth.depth),
        "focal": log_focal_error(cameras, truth).abs().mean(),
    }
    if cameras.shape[1] > 1:
        found["translation"] = (cameras[:, 1:, :3] - truth.translation[:, 1:]).abs().mean()
        found["rotation"] = (cameras[:, 1:, 3:7] - quaternion_from_matrix(truth.rotation[:, 1:])).abs().mean()
    if "ray" in output:
        ray = output["ray"]
        found["direction"] = (ray[..., :3] - truth.rays((ray.shape[2], ray.shape[3]))).abs().mean()
        found["origin"] = (ray[..., 3:] - truth.translation[:, :, None, None]).abs().mean()
    return found


def _gradient(error: Tensor, there: Tensor) -> Tensor:
    """Differences of the error between neighbours at four scales (Li and Snavely, MegaDepth, 2018)."""
    total = error.new_zeros(())
    for step in (1, 2, 4, 8):
        e, t = error[..., ::step, ::step], there[..., ::step, ::step]
        across = (e[..., 1:] - e[..., :-1]).abs() * (t[..., 1:] & t[..., :-1])
        down = (e[..., 1:, :] - e[..., :-1, :]).abs() * (t[..., 1:, :] & t[..., :-1, :])
        total = total + (across.sum() + down.sum()) / t.sum().clamp(min=1)
    return total


def log_focal_error(cameras: Tensor, truth: Targets) -> Tensor:
    """(B, N) logarithm of the one focal length of pose encodings (B, N, 9) over the true one."""
    tangents = torch.tan(cameras[..., 7:].clamp(0.05, 3.0) / 2)
    height, width = truth.image
    log_focal = 0.5 * (math.log(height * width / 4) - torch.log(tangents).sum(-1))
    return log_focal - torch.log(truth.focal)[:, None]


def _sky(raw: Tensor, depth: Tensor) -> Tensor:
    """Hinges: the raw output should be 1 and more in the sky, 0 and less elsewhere; both count the same."""
    is_sky = depth == 0
    there = F.relu(raw) * ~is_sky
    missed = F.relu(1 - raw) * is_sky
    return there.sum() / (~is_sky).sum().clamp(min=1) + missed.sum() / is_sky.sum().clamp(min=1)
