# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks: attention with bounded memory, two-dimensional rotary positions, feed-forward layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_core.errors import InputError
from da3_core.network.config import AttentionKernel, FeedForward
from da3_core.network.torch_private import writes_all_scores

_ROTARY_BASE = 100.0
_MAX_SCORES = 2**27  # elements of the score matrix where no fused kernel avoids it: 512 MiB in float32

Rotation = Callable[[Tensor], Tensor]
RotaryTable = tuple[Tensor, Tensor]


def attend(query: Tensor, key: Tensor, value: Tensor, max_scores: int = _MAX_SCORES) -> Tensor:
    """Scaled dot-product attention (B, heads, T, channels) that never holds all T x T scores at once."""
    batch, heads, keys = key.shape[:3]
    if not writes_all_scores(query, key, value):
        return F.scaled_dot_product_attention(query, key, value)
    rows = max(1, max_scores // (batch * heads * keys))
    return torch.cat([F.scaled_dot_product_attention(part, key, value) for part in query.split(rows, dim=2)], dim=2)


def attend_by_xformers(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same by xformers' memory-efficient kernels, which exist for CUDA only."""
    if not query.is_cuda:
        raise InputError(
            f"attention is 'xformers' and the model is on {query.device.type}: move it to cuda, or use 'torch'"
        )
    from xformers.ops import memory_efficient_attention

    mixed: Tensor = memory_efficient_attention(*(x.transpose(1, 2) for x in (query, key, value)))
    return mixed.transpose(1, 2)


KERNELS: dict[AttentionKernel, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "torch": attend,
    "xformers": attend_by_xformers,
}


def use_attention(network: nn.Module, kernel: AttentionKernel) -> None:
    """Let all attention layers of a network compute with one kernel.

    Raises:
        InputError: a kernel that does not exist, or xformers where it is not installed.
    """
    if kernel not in KERNELS:
        raise InputError(f"attention is {kernel!r}; allowed are {', '.join(KERNELS)}")
    if kernel == "xformers" and find_spec("xformers") is None:
        raise InputError("attention is 'xformers', which is not installed: pip install xformers, or use 'torch'")
    for module in network.modules():
        if isinstance(module, Attention):
            module.attend = KERNELS[kernel]


@lru_cache(maxsize=8)
def rotary_table(height: int, width: int, channels: int, device: torch.device) -> RotaryTable:
    """Table of one view: a special token at (0, 0), then h x w patches at (row + 1, column + 1)."""
    with torch.inference_mode(False):
        rows = torch.arange(1, height + 1, device=device).repeat_interleave(width)
        columns = torch.arange(1, width + 1, device=device).repeat(height)
        return rotary_angles(F.pad(torch.stack((rows, columns), dim=-1), (0, 0, 1, 0)), channels)


def rotary_angles(positions: Tensor, channels: int) -> RotaryTable:
    """Cosines and sines (T, 1, channels) for positions (T, 2) given as row and column (RoFormer, Su et al. 2021).

    The first half of the channels turns with the row, the second with the column; within a half, channel k pairs with
    k + channels/4. The minus sign of the first of a pair is in its sine.
    """
    quarter = channels // 4
    frequencies = _ROTARY_BASE ** (-torch.arange(quarter, dtype=torch.float32, device=positions.device) / quarter)
    angles = positions[:, :, None] * frequencies
    cosines = torch.cat((angles.cos(), angles.cos()), dim=-1)
    sines = torch.cat((-angles.sin(), angles.sin()), dim=-1)
    return cosines.flatten(1)[:, None], sines.flatten(1)[:, None]


def rotate(tokens: Tensor, table: RotaryTable) -> Tensor:
    """Turn each token (B, T, heads, channels) by its row of the table."""
    cosines, sines = table
    partners = tokens.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)
    return torch.addcmul(tokens * cosines, partners, sines)


def rotate_across(tokens: Tensor, table: RotaryTable, views: int) -> Tensor:
    """Turn the tokens (B, N * T, heads, channels) of several views, where all patches stand at (1, 1).

    Only differences of positions matter to attention: turning the special token of each view back by one step tells
    it from the patches just as well as turning every patch forward.
    """
    cosines, sines = table
    by_view = tokens.reshape(len(tokens), views, -1, *tokens.shape[2:])  # (B, N, T, heads, channels)
    turned = rotate(by_view[:, :, 0], (cosines[1], -sines[1]))
    return torch.cat((turned[:, :, None], by_view[:, :, 1:]), dim=2).flatten(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of each batch item."""

    def __init__(self, width: int, heads: int, normalise: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.attend = KERNELS["torch"]
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = nn.LayerNorm(width // heads, eps=1e-5) if normalise else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads, eps=1e-5) if normalise else nn.Identity()

    def forward(self, tokens: Tensor, rotation: Rotation | None = None) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, T, heads, channels)
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotation(query), rotation(key)
        query, key = query.to(value.dtype), key.to(value.dtype)
        mixed = self.attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    """A linear layer gated by the SiLU of another (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, linear = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * linear)


class LayerScale(nn.Module):
    """A learned weight per channel on what a layer adds to the residual stream (Touvron et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, stream: Tensor, update: Tensor) -> Tensor:
        return torch.addcmul(stream, update, self.gamma)


class Block(nn.Module):
    """Pre-norm attention and feed-forward layer, each with its layer scale."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        feed_forward: FeedForward = "mlp",
        eps: float,
        normalise_attention: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, normalise_attention)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, width) if feed_forward == "mlp" else SwiGlu(width, hidden)
        self.ls2 = LayerScale(width)

    def forward(self, tokens: Tensor, rotation: Rotation | None = None) -> Tensor:
        tokens = self.ls1(tokens, self.attn(self.norm1(tokens), rotation))
        return self.ls2(tokens, self.mlp(self.norm2(tokens)))
