# SPDX-License-Identifier: Apache-2.0
"""Cameras and the network: known ones become tokens, tokens become cameras.

In between stands the pose encoding, 9 numbers per view: camera-to-world translation (3), camera-to-world rotation as
a quaternion x y z w, vertical and horizontal field of view in radians. The principal point is taken to be the centre.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from da3_core.network.attention import Block, Mlp
from da3_core.network.config import Size

_MIN_TANGENT = 1e-6
_ENCODER_BLOCKS, _ENCODER_HEADS = 4, 16


def invert_rigid(transform: Tensor) -> Tensor:
    """Inverse (..., 3, 4) of rigid transforms (..., 3 or 4, 4)."""
    rotation = transform[..., :3, :3].transpose(-2, -1)
    return torch.cat((rotation, -rotation @ transform[..., :3, 3:]), dim=-1)


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternions x y z w (..., 4), w >= 0, of rotation matrices (..., 3, 3).

    Of four ways to divide by a component, the one with the largest divisor is taken.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = rotation.flatten(-2).unbind(-1)
    squares = torch.stack((1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), dim=-1)
    doubled = squares.clamp(min=0).sqrt()  # 2 |w|, 2 |x|, 2 |y|, 2 |z|
    square = doubled**2
    candidates = torch.stack(
        (
            torch.stack((square[..., 0], m21 - m12, m02 - m20, m10 - m01), dim=-1),
            torch.stack((m21 - m12, square[..., 1], m10 + m01, m02 + m20), dim=-1),
            torch.stack((m02 - m20, m10 + m01, square[..., 2], m12 + m21), dim=-1),
            torch.stack((m10 - m01, m20 + m02, m21 + m12, square[..., 3]), dim=-1),
        ),
        dim=-2,
    )
    best = doubled.argmax(dim=-1)[..., None, None]
    candidates = candidates / (2 * doubled.clamp(min=0.1)[..., None])
    wxyz = candidates.take_along_dim(best, dim=-2).squeeze(-2)
    xyzw = wxyz.roll(-1, dims=-1)
    return torch.where(xyzw[..., 3:] < 0, -xyzw, xyzw)


def matrix_from_quaternion(xyzw: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions x y z w of any length but zero."""
    x, y, z, w = xyzw.unbind(-1)
    s = 2 / xyzw.square().sum(dim=-1)
    rows = (
        *(1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        *(s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        *(s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def encode_cameras(world_to_camera: Tensor, intrinsics: Tensor, image_size: Size) -> Tensor:
    """Pose encodings (B, N, 9) of cameras (B, N, 3 or 4, 4) with intrinsics (B, N, 3, 3) in pixels of the image."""
    camera_to_world = invert_rigid(world_to_camera)
    focal_yx = torch.stack((intrinsics[..., 1, 1], intrinsics[..., 0, 0]), dim=-1)
    half_size = torch.tensor(image_size, dtype=focal_yx.dtype, device=focal_yx.device) / 2
    fields_of_view = 2 * torch.atan(half_size / focal_yx)
    quaternion = quaternion_from_matrix(camera_to_world[..., :3])
    return torch.cat((camera_to_world[..., 3], quaternion, fields_of_view), dim=-1)


def decode_cameras(encoding: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
    """World-to-camera transforms (B, N, 3, 4) and intrinsics (B, N, 3, 3) in pixels from pose encodings (B, N, 9)."""
    camera_to_world = torch.cat((matrix_from_quaternion(encoding[..., 3:7]), encoding[..., :3, None]), dim=-1)
    height, width = image_size
    tangents = torch.tan(encoding[..., 7:] / 2).clamp(min=_MIN_TANGENT)
    intrinsics = encoding.new_zeros((*encoding.shape[:-1], 3, 3))
    intrinsics[..., 0, 0], intrinsics[..., 0, 2] = width / 2 / tangents[..., 1], width / 2
    intrinsics[..., 1, 1], intrinsics[..., 1, 2] = height / 2 / tangents[..., 0], height / 2
    intrinsics[..., 2, 2] = 1
    return invert_rigid(camera_to_world), intrinsics


class CameraEncoder(nn.Module):
    """Known cameras to the tokens that lead their views in the joint blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pose_branch = Mlp(9, width // 2, width)
        self.token_norm = nn.LayerNorm(width, eps=1e-5)
        self.trunk = nn.Sequential(
            *(Block(width, _ENCODER_HEADS, 4 * width, eps=1e-5) for _ in range(_ENCODER_BLOCKS)),
        )
        self.trunk_norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, world_to_camera: Tensor, intrinsics: Tensor, image_size: Size) -> Tensor:
        """Camera tokens (B, N, C)."""
        tokens = self.pose_branch(encode_cameras(world_to_camera, intrinsics, image_size))
        return self.trunk_norm(self.trunk(self.token_norm(tokens)))


class CameraDecoder(nn.Module):
    """The camera tokens of the last feature map to cameras."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_t = nn.Linear(width, 3)
        self.fc_qvec = nn.Linear(width, 4)
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, camera_tokens: Tensor, image_size: Size) -> tuple[Tensor, Tensor]:
        """World-to-camera transforms (B, N, 3, 4) and intrinsics (B, N, 3, 3) from tokens (B, N, D)."""
        x = self.backbone(camera_tokens)
        return decode_cameras(torch.cat((self.fc_t(x), self.fc_qvec(x), self.fc_fov(x)), dim=-1), image_size)
