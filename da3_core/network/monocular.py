# SPDX-License-Identifier: Apache-2.0
"""The mono and metric networks: depth and sky of every view by itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from da3_core.errors import InputError
from da3_core.network.config import HeadConfig, MonocularConfig, RefViewStrategy, Size, image_size_of
from da3_core.network.dpt import Dpt, decode_views, value_head
from da3_core.network.kept_views import KnownViews, parts_of
from da3_core.network.precision import full_precision
from da3_core.network.requests import check_gaussians, check_images, check_layers
from da3_core.network.vit import Backbone

SKY_FROM = 0.3  # raw sky output from which a pixel counts as sky
MIN_PIXELS = 10  # a kind of pixel that is not more frequent than this is taken to be absent
_FAR_QUANTILE = 0.99


class SkyDpt(Dpt):
    """Depth and sky at full resolution."""

    def __init__(self, inputs: int, config: HeadConfig) -> None:
        super().__init__(inputs, config, embeds_uv=False)
        self.scratch["output_conv2"] = value_head(config.features // 2, outputs=1)
        self.scratch["sky_output_conv2"] = value_head(config.features // 2, outputs=1)

    def output_names(self) -> tuple[str, ...]:
        """What `forward` returns."""
        return "depth", "sky"

    def forward(self, *maps: Tensor, grid: Size) -> dict[str, Tensor]:
        """Four token maps (V, P, D) to `depth` and raw `sky` (V, H, W)."""
        neck = self.neck(self.pyramid(maps, grid), image_size_of(grid))
        depth, sky = self.scratch["output_conv2"](neck), self.scratch["sky_output_conv2"](neck)
        return {"depth": depth[:, 0].exp(), "sky": sky[:, 0].relu()}


class MonocularNetwork(nn.Module):
    """Backbone and head; the backbone computes in the precision of the surrounding `torch.autocast`."""

    def __init__(self, config: MonocularConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config.backbone)
        self.head = SkyDpt(config.backbone.feature_width, config.head)

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        export_feat_layers: Collection[int] = (),
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: RefViewStrategy = "saddle_balanced",
        known: KnownViews | None = None,
        decoded: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """`depth` and raw `sky` (B, N, H, W), `aux`, for images (B, N, 3, H, W); what concerns cameras has no effect.

        Nor has `decoded`: what is known of a view here is its depth.

        Raises:
            InputError: shapes or layers are wrong, or known poses or Gaussians came in.
        """
        check_images(images)
        check_layers(export_feat_layers, self.backbone.config.depth)
        if extrinsics is not None:
            raise InputError("extrinsics came to a model that sees every view by itself: leave them out")
        check_gaussians(infer_gs, has_head=False)
        layers = tuple(export_feat_layers)
        parts = parts_of(
            known, ("depth", id(self), *layers), images.flatten(0, 1), lambda new: self._each_alone(new, layers)
        )
        depth, sky, *features = (part.unflatten(0, images.shape[:2]) for part in parts)
        aux = {f"feat_layer_{i}": maps for i, maps in zip(layers, features, strict=True)}
        return {"depth": fill_sky(depth, sky), "sky": sky, "aux": aux}

    def _each_alone(self, images: Tensor, layers: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Images (V, 3, H, W) to depth and raw sky (V, H, W) and the features (V, h, w, C) of `layers`."""
        views = self.backbone.embed_views(images[None], layers)
        features = self.backbone.view_features(views, layers)
        with full_precision(images):
            output = decode_views(self.head, *features.maps, grid=features.grid)
        return output["depth"][0], output["sky"][0], *(maps[0] for maps in features.aux().values())


def fill_sky(depth: Tensor, sky: Tensor) -> Tensor:
    """Depth with the sky of all views at the 99 % quantile of the rest, where there is both sky and rest."""
    is_sky = sky >= SKY_FROM
    sky_pixels = int(is_sky.sum())
    if sky_pixels <= MIN_PIXELS or is_sky.numel() - sky_pixels <= MIN_PIXELS:
        return depth
    return torch.where(is_sky, far_depth(depth[~is_sky]), depth)


def far_depth(depths: Tensor) -> Tensor:
    """The depth that stands for the sky."""
    return quantile(depths, _FAR_QUANTILE)


def quantile(values: Tensor, fraction: float) -> Tensor:
    """Exact quantile of any number of values (n), linear between neighbours; `torch.quantile` takes 16 million."""
    place = fraction * (len(values) - 1)
    below = int(place)
    low = values.kthvalue(below + 1).values
    high = values.kthvalue(min(below + 2, len(values))).values
    return torch.lerp(low, high, place - below)
