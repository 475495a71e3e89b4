# SPDX-License-Identifier: Apache-2.0
"""Dense heads: feature maps of four backbone layers to one value per pixel (Ranftl et al., "Vision Transformers for
Dense Prediction", 2021).

Heads take a batch of views (V, ...) and know nothing of scenes; every view is decoded by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_core.network.config import HeadConfig, Size, image_size_of

_MAX_RESIZED = 1_610_612_736  # elements that one bilinear resize may write before a 32-bit index overflows on a GPU
_VIEWS_AT_A_TIME = 8  # on an accelerator; a CPU is as fast with one and needs less memory
_UV_STRENGTH = 0.1
_UV_BASE = 100.0


def resize(x: Tensor, size: Size) -> Tensor:
    """Bilinear resize of (V, C, h, w), corners aligned."""
    channels = max(1, _MAX_RESIZED // (len(x) * size[0] * size[1]))
    parts = [F.interpolate(part, size, mode="bilinear", align_corners=True) for part in x.split(channels, dim=1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def size_of(x: Tensor) -> Size:
    """Height and width of a map (V, C, h, w) as plain numbers, under tracing too."""
    return int(x.shape[2]), int(x.shape[3])


def add_uv(x: Tensor, image_size: Size) -> Tensor:
    """Add sines and cosines of the place in the image to a map (V, C, h, w).

    The first half of the channels depends on the column only, the second on the row only, so no full map is built.
    """
    columns, rows = uv_waves(int(x.shape[1]) // 2, size_of(x), image_size, x.device)
    first, second = x.chunk(2, dim=1)
    return torch.cat((first + columns[:, None, :], second + rows[:, :, None]), dim=1)


@lru_cache(maxsize=32)
def uv_waves(channels: int, size: Size, image_size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waves (channels, w) over the columns and (channels, h) over the rows of a map that covers an image.

    Coordinates run over pixel centres of the map, in units of half the diagonal of the image.
    """
    with torch.inference_mode(False):
        (height, width), diagonal = image_size, (image_size[0] ** 2 + image_size[1] ** 2) ** 0.5
        quarter = channels // 2
        frequencies = _UV_BASE ** (-torch.arange(quarter, dtype=torch.float32, device=device) / quarter)

        def waves(side: int, cells: int) -> Tensor:
            end = side / diagonal * (cells - 1) / cells
            angles = frequencies[:, None] * torch.linspace(-end, end, cells, device=device)
            return _UV_STRENGTH * torch.cat((angles.sin(), angles.cos()))

        return waves(width, size[1]), waves(height, size[0])


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions around which the input passes unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class FusionBlock(nn.Module):
    """Merge a coarse map with a finer one and enlarge the result."""

    def __init__(self, channels: int, has_lateral: bool) -> None:
        super().__init__()
        if has_lateral:
            self.resConfUnit1 = ResidualConvUnit(channels)
        self.resConfUnit2 = ResidualConvUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, top: Tensor, lateral: Tensor | None, size: Size) -> Tensor:
        merged = top if lateral is None else top + self.resConfUnit1(lateral)
        # A 1x1 convolution and bilinear interpolation commute; before the enlargement it costs a quarter.
        return resize(self.out_conv(self.resConfUnit2(merged)), size)


def fusion_chain(channels: int, suffix: str = "") -> dict[str, nn.Module]:
    return {f"refinenet{k}{suffix}": FusionBlock(channels, has_lateral=k < 4) for k in (1, 2, 3, 4)}


def value_head(inputs: int, outputs: int) -> nn.Sequential:
    """The last two convolutions, to some values per pixel."""
    return nn.Sequential(nn.Conv2d(inputs, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, outputs, 1))


class Dpt(nn.Module):
    """What all heads share: four maps to a pyramid, the pyramid fused from coarse to fine."""

    def __init__(self, inputs: int, config: HeadConfig, *, embeds_uv: bool) -> None:
        super().__init__()
        first, second, _, fourth = config.out_channels
        self.embeds_uv = embeds_uv
        self.projects = nn.ModuleList(nn.Conv2d(inputs, channels, 1) for channels in config.out_channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(fourth, fourth, 3, stride=2, padding=1),
            )
        )
        self.scratch = nn.ModuleDict(fusion_chain(config.features))
        for k, channels in enumerate(config.out_channels, start=1):
            self.scratch[f"layer{k}_rn"] = nn.Conv2d(channels, config.features, 3, padding=1, bias=False)
        self.scratch["output_conv1"] = nn.Conv2d(config.features, config.features // 2, 3, padding=1)

    def pyramid(self, maps: Sequence[Tensor], grid: Size) -> list[Tensor]:
        """Token maps (V, P, D) to levels (V, F, ., .) of 4, 2, 1 and 1/2 times the patch grid."""
        image_size = image_size_of(grid)
        levels = []
        for k, tokens in enumerate(maps):
            level = self.projects[k](tokens.transpose(1, 2).unflatten(2, grid))
            if self.embeds_uv:
                level = add_uv(level, image_size)
            levels.append(self.scratch[f"layer{k + 1}_rn"](self.resize_layers[k](level)))
        return levels

    def fuse(self, levels: Sequence[Tensor], suffix: str = "") -> Tensor:
        """One map (V, F, 8h, 8w) from the pyramid, by the chain of that suffix."""
        finest, *_ = sizes = [size_of(level) for level in levels[:3]]
        sizes = [(2 * finest[0], 2 * finest[1]), *sizes]
        fused = self.scratch[f"refinenet4{suffix}"](levels[3], None, sizes[3])
        for k in (3, 2, 1):
            fused = self.scratch[f"refinenet{k}{suffix}"](fused, levels[k - 1], sizes[k - 1])
        return fused

    def neck(self, levels: Sequence[Tensor], image_size: Size) -> Tensor:
        """The fused map at full resolution (V, F/2, H, W)."""
        return resize(self.scratch["output_conv1"](self.fuse(levels)), image_size)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of every pixel of a map (V, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, 3)).movedim(3, 1)


def ray_neck(wide: int, narrow: int) -> nn.Sequential:
    """Five convolutions with nothing between."""
    widths = ((wide, narrow), (narrow, wide), (wide, narrow), (narrow, wide), (wide, narrow))
    return nn.Sequential(*(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in widths))


def ray_values(inputs: int, norm: ChannelNorm) -> nn.Sequential:
    """To direction, origin and confidence. The identities keep the places that checkpoints number."""
    convolution = nn.Conv2d(inputs, 32, 3, padding=1)
    return nn.Sequential(convolution, nn.Identity(), norm, nn.Identity(), nn.ReLU(), nn.Conv2d(32, 7, 1))


class DualDpt(Dpt):
    """Depth with confidence at full resolution and, on demand, a ray per pixel at 8/14 of it.

    The ray branch is a fusion chain of its own. Its coarser levels were trained and are in every checkpoint, but only
    the finest one reaches an output. All four share one norm.
    """

    def __init__(self, inputs: int, config: HeadConfig) -> None:
        super().__init__(inputs, config, embeds_uv=True)
        wide, narrow = config.features, config.features // 2
        self.log_depth_range = config.log_depth_range
        self.norm = nn.LayerNorm(inputs, eps=1e-5)
        self.scratch["output_conv2"] = value_head(narrow, outputs=2)
        if config.sky:
            self.scratch["sky_output_conv2"] = value_head(narrow, outputs=1)
        self.scratch.update(fusion_chain(wide, "_aux"))
        norm = ChannelNorm(32, eps=1e-5)
        self.scratch["output_conv1_aux"] = nn.ModuleList(ray_neck(wide, narrow) for _ in range(4))
        self.scratch["output_conv2_aux"] = nn.ModuleList(ray_values(narrow, norm) for _ in range(4))

    def bounded(self, log_depth: Tensor) -> Tensor:
        """The logarithm of depth within its range; in the middle of the range next to nothing changes."""
        limit = self.log_depth_range
        return log_depth if limit is None else limit * torch.tanh(log_depth / limit)

    def output_names(self, *, rays: bool = False) -> tuple[str, ...]:
        """What `forward` returns."""
        sky = ("sky",) if "sky_output_conv2" in self.scratch else ()
        return ("depth", "depth_conf", *sky, *(("ray", "ray_conf") if rays else ()))

    def forward(self, *maps: Tensor, grid: Size, rays: bool = False) -> dict[str, Tensor]:
        """Four token maps (V, P, D) to `depth`, `depth_conf` and, where the head tells it, raw `sky` (V, H, W); `ray`
        (V, 8h, 8w, 6), `ray_conf` (V, 8h, 8w).

        A ray is its direction, not normalised, and its origin, in the world frame.
        """
        image_size = image_size_of(grid)
        levels = self.pyramid([self.norm(tokens) for tokens in maps], grid)
        full = add_uv(self.neck(levels, image_size), image_size)
        values = self.scratch["output_conv2"](full)
        outputs = {"depth": self.bounded(values[:, 0]).exp(), "depth_conf": values[:, 1].exp() + 1}
        if "sky_output_conv2" in self.scratch:
            outputs["sky"] = self.scratch["sky_output_conv2"](full)[:, 0].relu()
        if rays:
            finest = self.scratch.get_submodule("output_conv1_aux.3")(self.fuse(levels, "_aux"))
            values = self.scratch.get_submodule("output_conv2_aux.3")(add_uv(finest, image_size)).movedim(1, 3)
            outputs |= {"ray": values[..., :6], "ray_conf": values[..., 6].exp() + 1}
        return outputs


def decode_views(head: nn.Module, *per_view: Tensor, **options: object) -> dict[str, Tensor]:
    """Run a head on tensors (B, N, ...), a bounded number of views at a time."""
    batch = per_view[0].shape[:2]
    at_a_time = 1 if per_view[0].device.type == "cpu" else _VIEWS_AT_A_TIME
    parts = zip(*(x.flatten(0, 1).split(at_a_time) for x in per_view), strict=True)
    outputs = [head(*part, **options) for part in parts]
    return {name: torch.cat([output[name] for output in outputs]).unflatten(0, batch) for name in outputs[0]}
