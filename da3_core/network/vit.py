# SPDX-License-Identifier: Apache-2.0
"""The backbone: a DINOv2 vision transformer whose later blocks look across views.

It runs in two parts, so that a caller who sees a view again can keep what the first part made of it: `embed_views`
treats every view by itself, `join_views` lets them meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_core.network.attention import Block, rotary_table, rotate, rotate_across
from da3_core.network.config import HEAD_WIDTH, PATCH_SIZE, BackboneConfig, RefViewStrategy, Size, image_size_of
from da3_core.network.kept_views import KnownViews, parts_of
from da3_core.network.reference_view import choose_reference, reference_first, reorder
from da3_core.network.torch_private import version_of

_TABLE_SIDE = 37  # the position table was learned on 37 x 37 patches, an image of 518 x 518
_CACHED_SIZES = 4


@dataclass(frozen=True, eq=False)
class ViewTokens:
    """What the backbone knows of each view before it has met the others.

    Attributes:
        tokens: (B, N, 1 + P, C) after the last block that sees one view only; token 0 is the class token.
        class_tokens: (B, N, C) one block earlier, from which the reference view is chosen.
        kept: outputs (B, N, 1 + P, C) of those blocks run so far that feed a head or were asked for, by block.
        grid: patches h, w of a view.
    """

    tokens: Tensor
    class_tokens: Tensor
    kept: dict[int, Tensor]
    grid: Size

    @property
    def image_size(self) -> Size:
        return image_size_of(self.grid)


@dataclass(frozen=True, eq=False)
class Features:
    """What the backbone hands to the heads, views in input order.

    Attributes:
        maps: four feature maps (B, N, P, D), normalised.
        camera_tokens: (B, N, D) token 0 of the last of them, not normalised.
        exported: normalised outputs (B, N, P, C) of the blocks asked for, by block.
        grid: patches h, w of a view, P = h * w.
    """

    maps: tuple[Tensor, ...]
    camera_tokens: Tensor
    exported: dict[int, Tensor]
    grid: Size

    @property
    def image_size(self) -> Size:
        return image_size_of(self.grid)

    def aux(self) -> dict[str, Tensor]:
        """The exported features as maps (B, N, h, w, C), by the name they carry in the output."""
        return {f"feat_layer_{i}": tokens.unflatten(2, self.grid) for i, tokens in self.exported.items()}


def grid_of(images: Tensor) -> Size:
    """Patches h, w of images (..., H, W) as plain numbers, under tracing too."""
    return int(images.shape[-2]) // PATCH_SIZE, int(images.shape[-1]) // PATCH_SIZE


class PatchEmbedding(nn.Module):
    """One token per patch of the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """The parameters of the backbone, and the token embedding."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        joint_from = config.depth if config.joint_from is None else config.joint_from
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if config.joint_from is not None:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + _TABLE_SIDE**2, config.width))
        self.patch_embed = PatchEmbedding(config.width)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                config.hidden,
                feed_forward=config.feed_forward,
                eps=1e-6,
                normalise_attention=config.rotary and i >= joint_from,
            )
            for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-5)
        self._positions: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()

    def embed(self, images: Tensor, positions: Tensor | None = None) -> Tensor:
        """Tokens (V, 1 + P, C) of images (V, 3, H, W): the class token, then the patches row by row.

        `positions` (1, 1 + P, C), of `position_embedding`, may be given where their look-up cannot be traced.
        """
        patches = self.patch_embed(images).to(self.cls_token.dtype)
        tokens = torch.cat((self.cls_token.expand(images.shape[0], -1, -1), patches), dim=1)
        if positions is None:
            positions = self.position_embedding(*grid_of(images))
        return tokens + positions

    def position_embedding(self, height: int, width: int) -> Tensor:
        """The position table (1, 1 + h*w, C) resampled to h x w patches; the last few sizes are remembered."""
        table = self.pos_embed
        if (height, width) == (_TABLE_SIDE, _TABLE_SIDE):
            return table
        if table.requires_grad and torch.is_grad_enabled():
            return resample_positions(table, height, width)
        key = (height, width, id(table), version_of(table), table.device, table.dtype)
        positions = self._positions.get(key)
        if positions is None:
            with torch.inference_mode(False), torch.no_grad():
                positions = resample_positions(table, height, width)
            self._positions[key] = positions
            if len(self._positions) > _CACHED_SIZES:
                self._positions.popitem(last=False)
        return positions


def resample_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resampling of a position table (1, 1 + 37*37, C) to (1, 1 + h*w, C); the class entry stays.

    The tenth of a patch that DINOv2 adds to the size is part of the trained model: it shifts the sampling grid.
    """
    square = table[:, 1:].float().unflatten(1, (_TABLE_SIDE, _TABLE_SIDE)).permute(0, 3, 1, 2)
    scale = ((height + 0.1) / _TABLE_SIDE, (width + 0.1) / _TABLE_SIDE)
    patches = F.interpolate(square, scale_factor=scale, mode="bicubic").flatten(2).mT
    return torch.cat((table[:, :1], patches.to(table.dtype)), dim=1)


class Backbone(nn.Module):
    """Runs the transformer: local blocks inside each view, joint blocks over the tokens of all views."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.local_depth = config.depth if config.joint_from is None else config.joint_from
        self.pretrained = VisionTransformer(config)

    def embed_views(
        self, images: Tensor, export_layers: Collection[int] = (), known: KnownViews | None = None
    ) -> ViewTokens:
        """Images (B, N, 3, H, W) to tokens, through the blocks that see one view only, but for views that are known."""
        grid = grid_of(images)
        layers = self._kept_layers(export_layers)
        parts = parts_of(
            known, ("tokens", id(self), *layers), images.flatten(0, 1), lambda new: self.local_blocks(new, layers)
        )
        tokens, class_tokens, *kept = (part.reshape(*images.shape[:2], *part.shape[1:]) for part in parts)
        return ViewTokens(tokens, class_tokens, dict(zip(layers, kept, strict=True)), grid)

    def local_blocks(
        self, images: Tensor, layers: Sequence[int], positions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Images (V, 3, H, W) through the blocks that see one view only.

        Returns the tokens (V, 1 + P, C), the class tokens (V, C) one block earlier, and the outputs (V, 1 + P, C) of
        `layers`.
        """
        tokens = self.pretrained.embed(images, positions)
        previous, kept = tokens, []
        for i, block in enumerate(self.pretrained.blocks[: self.local_depth]):
            previous, tokens = tokens, block(tokens)
            if i in layers:
                kept.append(tokens)
        return tokens, previous[:, 0].clone(), *kept

    def view_features(self, views: ViewTokens, export_layers: Collection[int] = ()) -> Features:
        """Features of a backbone whose views never meet."""
        maps = tuple(self._normalised(views.kept[i]) for i in self.config.out_layers)
        exported = {i: self._normalised(views.kept[i]) for i in export_layers}
        return Features(maps, views.tokens[:, :, 0], exported, views.grid)

    def join_views(
        self,
        views: ViewTokens,
        camera_tokens: Tensor | None = None,
        *,
        ref_view_strategy: RefViewStrategy = "saddle_balanced",
        export_layers: Collection[int] = (),
    ) -> Features:
        """Let the views meet, each led by a camera token: a given one (B, N, C), or else a learned one.

        The learned tokens tell one view, the reference, from the others. Of three views and more a strategy chooses
        it and it runs first; every result is put back into input order.
        """
        count = views.tokens.shape[1]
        order = None
        if camera_tokens is None:
            camera_tokens = self._learned_camera_tokens(*views.tokens.shape[:2])
            if count >= 3:  # while it is traced, for numbers of views that are fewer too
                reference = choose_reference(views.class_tokens, ref_view_strategy)
                order = reference_first(torch.where(torch.as_tensor(count >= 3), reference, 0), count)
        tokens = views.tokens if order is None else reorder(views.tokens, order)  # (B, N, 1 + P, C)
        tokens = torch.cat((camera_tokens[:, :, None], tokens[:, :, 1:]), dim=2)  # the class token makes place

        alone = [views.kept[i] for i in self.config.out_layers if i < self.local_depth]
        maps = [torch.cat((state[:, :, 1:], self._normalised(state)), dim=-1) for state in alone]  # (B, N, P, D = 2C)
        exported = {i: self._normalised(views.kept[i]) for i in export_layers if i < self.local_depth}
        later = sorted({i for i in export_layers if i >= self.local_depth})
        joint = self.joint_blocks(tokens, views.grid, later)
        if order is not None:
            joint = tuple(reorder(part, order.argsort(dim=1)) for part in joint)
        cameras, *rest = joint
        met = len(self.config.out_layers) - len(alone)
        exported |= dict(zip(later, rest[met:], strict=True))
        return Features((*maps, *rest[:met]), cameras, exported, views.grid)

    def joint_blocks(self, tokens: Tensor, grid: Size, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """Tokens (B, N, 1 + P, C), each view led by its camera token and the reference first, through the blocks in
        which views meet.

        Returns the camera tokens (B, N, D), the feature maps (B, N, P, D) of those output layers that lie here, and the
        normalised outputs (B, N, P, C) of `layers`.
        """
        inside_views = across_views = None
        if self.config.rotary:
            table = rotary_table(*grid, HEAD_WIDTH, tokens.device)
            inside_views = partial(rotate, table=table)
            across_views = partial(rotate_across, table=table, views=tokens.shape[1])
        maps, exported = [], []
        for i, block in enumerate(self.pretrained.blocks[self.local_depth :], start=self.local_depth):
            local = tokens
            if i % 2:
                tokens = block(tokens.flatten(1, 2), across_views).view_as(tokens)  # (B, N * (1 + P), C)
            else:
                tokens = block(tokens.flatten(0, 1), inside_views).view_as(tokens)  # (B * N, 1 + P, C)
            if i in self.config.out_layers:  # always odd here, so that `local` comes from the local block before it
                maps.append(torch.cat((local[:, :, 1:], self._normalised(tokens)), dim=-1))
            if i in layers:
                exported.append(self._normalised(tokens))
        return torch.cat((local[:, :, 0], tokens[:, :, 0]), dim=-1), *maps, *exported  # (B, N, D), ...

    def _kept_layers(self, export_layers: Collection[int]) -> list[int]:
        """Blocks that see one view only and whose output is needed later."""
        return sorted({i for i in (*self.config.out_layers, *export_layers) if i < self.local_depth})

    def _learned_camera_tokens(self, batch: int, views: int) -> Tensor:
        reference, other = self.pretrained.camera_token.expand(batch, -1, -1).split(1, dim=1)
        return torch.cat((reference, other.expand(-1, views - 1, -1)), dim=1)

    def _normalised(self, tokens: Tensor) -> Tensor:
        """The patch tokens (B, N, P, C) after the final norm."""
        return self.pretrained.norm(tokens[:, :, 1:])
