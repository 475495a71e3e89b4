# SPDX-License-Identifier: Apache-2.0
"""The networks of Depth Anything 3 in plain PyTorch: nothing here knows of files, images or arrays.

Paper: Lin et al., "Depth Anything 3: Recovering the Visual Space from Any Views", 2025.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from da3_core.network.config import NetworkConfig


def build_network(config: NetworkConfig) -> nn.Module:
    """A network, with random weights, in evaluation mode.

    `network(images, extrinsics=None, intrinsics=None, *, export_feat_layers=(), infer_gs=False, use_ray_pose=False,
    ref_view_strategy="saddle_balanced")` takes normalised images (B, N, 3, H, W) and returns a dict of tensors.
    """
    import torch

    from da3_core.network.any_view import AnyViewNetwork
    from da3_core.network.config import AnyViewConfig, MonocularConfig
    from da3_core.network.monocular import MonocularNetwork
    from da3_core.network.nested import NestedNetwork

    network: nn.Module
    if isinstance(config, AnyViewConfig):
        network = AnyViewNetwork(config)
    elif isinstance(config, MonocularConfig):
        network = MonocularNetwork(config)
    else:
        network = NestedNetwork(config)
    # Tokens reach the convolutions with their channels last in memory, and it is fastest to keep them so.
    return network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
