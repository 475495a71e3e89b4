# SPDX-License-Identifier: Apache-2.0
"""Fixed random weights whose output still depends on the image, to try out everything but the quality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from da3_core.network.attention import LayerScale
from da3_core.network.camera import CameraDecoder
from da3_core.network.dpt import Dpt
from da3_core.network.vit import VisionTransformer

_LAYER_SCALE = 0.3
_POSITION_STD = 0.1
_VALUE_GAIN = 0.3  # of the last convolution of a head: depths within about a factor of two of their median


@torch.no_grad()
def initialise_untrained(network: nn.Module) -> None:
    """Fill all parameters, the same on every machine, so that no layer drowns or blows up what it is given."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):  # the same weights at every place of the kernel: no grid pattern
            fill_random(module.weight[:, :, :1, :1], module.in_channels, generator)
            module.weight.copy_(module.weight[:, :, :1, :1].clone().expand_as(module.weight))
        elif isinstance(module, nn.Linear | nn.Conv2d):
            fill_random(module.weight, module.weight[0].numel(), generator)
        elif isinstance(module, nn.LayerNorm):
            module.weight.fill_(1)
        elif isinstance(module, LayerScale):
            module.gamma.fill_(_LAYER_SCALE)
        elif isinstance(module, VisionTransformer):
            fill_random(module.pos_embed, _POSITION_STD**-2, generator)
            for name, token in module.named_parameters(recurse=False):
                if name.endswith("_token"):
                    fill_random(token, 1, generator)
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            module.get_parameter("bias").zero_()
    for module in network.modules():
        if isinstance(module, Dpt):
            module.scratch.get_parameter("output_conv2.2.weight").mul_(_VALUE_GAIN)
        elif isinstance(module, CameraDecoder):
            _look_ahead(module)


def fill_random(parameter: Tensor, inputs: float, generator: torch.Generator) -> None:
    parameter.normal_(std=inputs**-0.5, generator=generator)


def _look_ahead(decoder: CameraDecoder) -> None:
    """Make cameras that stand close together, look about the same way and see about 57 degrees."""
    for name, gain in (("fc_t", 0.1), ("fc_qvec", 0.05), ("fc_fov.0", 0.05)):
        decoder.get_parameter(f"{name}.weight").mul_(gain)
    decoder.fc_qvec.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))
    decoder.get_parameter("fc_fov.0.bias").fill_(1.0)
