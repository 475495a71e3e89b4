# SPDX-License-Identifier: Apache-2.0
"""Which of several views comes first where the views meet, and putting views in that order and back."""

from __future__ import annotations

import torch
from torch import Tensor

from da3_core.network.config import RefViewStrategy


def choose_reference(class_tokens: Tensor, strategy: RefViewStrategy) -> Tensor:
    """Index (B,) of the reference view, from the class tokens (B, N, C) of all views.

    `saddle_balanced` takes the view that is the most middling in its likeness to the others, the length of its token
    and the spread of its channels; `saddle_sim_range` the one whose likeness to the views (itself counted as zero)
    varies most, which usually is a tie between the two most similar views; `first` and `middle` look at nothing.
    """
    batch, views, _ = class_tokens.shape
    if strategy in ("first", "middle"):
        index = 0 if strategy == "first" else views // 2
        return torch.full((batch,), index, device=class_tokens.device)
    lengths = class_tokens.norm(dim=-1)
    directions = class_tokens / lengths[..., None]
    likeness = directions @ directions.transpose(-2, -1) - torch.eye(
        views, dtype=class_tokens.dtype, device=class_tokens.device
    )
    if strategy == "saddle_sim_range":
        return (likeness.amax(dim=-1) - likeness.amin(dim=-1)).argmax(dim=-1)
    metrics = torch.stack((likeness.sum(dim=-1) / (views - 1), lengths, directions.var(dim=-1)), dim=-1)  # (B, N, 3)
    low, high = metrics.amin(dim=1, keepdim=True), metrics.amax(dim=1, keepdim=True)
    return ((metrics - low) / (high - low + 1e-8) - 0.5).abs().sum(dim=-1).argmin(dim=-1)


def reference_first(reference: Tensor, views: int) -> Tensor:
    """Order (B, N) that puts the reference view (B,) first and keeps the others as they were."""
    order = torch.arange(views, device=reference.device).expand(len(reference), -1)
    return torch.where(order == reference[:, None], -1, order).argsort(dim=1)


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Views of x (B, N, ...) in the given order (B, N); `order.argsort(dim=1)` takes them back."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]
