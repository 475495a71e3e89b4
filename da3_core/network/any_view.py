# SPDX-License-Identifier: Apache-2.0
"""The any-view network: images of one scene to depth, confidence, cameras and, on demand, rays and Gaussians."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from da3_core.network.camera import CameraDecoder, CameraEncoder
from da3_core.network.config import PATCH_SIZE, AnyViewConfig, ReferenceViewStrategy
from da3_core.network.dpt import DualDpt, decode_views
from da3_core.network.requests import check_cameras, check_images, check_layers, check_strategy
from da3_core.network.vit import Backbone, Features, ViewTokens


class AnyViewNetwork(nn.Module):
    """Backbone, dense heads and camera heads.

    `forward` composes four steps that a caller with a stream of images may call one by one: `embed_views` sees every
    view by itself, `join_views` lets them meet, `decode_depth` and `decode_cameras` read the result out.

    The backbone computes in the precision of the surrounding `torch.autocast`; heads and cameras in float32.
    """

    def __init__(self, config: AnyViewConfig) -> None:
        super().__init__()
        width = config.backbone.feature_width
        self.backbone = Backbone(config.backbone)
        self.head = DualDpt(width, config.head)
        self.cam_enc = CameraEncoder(config.backbone.width)
        self.cam_dec = CameraDecoder(width)

    def forward(
        self,
        images: Tensor,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        export_feat_layers: Collection[int] = (),
        infer_gs: bool = False,
        use_ray_pose: bool = False,
        ref_view_strategy: ReferenceViewStrategy = "saddle_balanced",
        export_rays: bool = False,
    ) -> dict[str, Any]:
        """Depth and cameras of every view.

        Args:
            images: (B, N, 3, H, W) normalised RGB, sides multiples of 14.
            extrinsics: (B, N, 4, 4) known world-to-camera transforms, used as they are. Needs `intrinsics`.
            intrinsics: (B, N, 3, 3) in pixels of the images.
            export_feat_layers: backbone blocks whose normalised patch tokens are returned.
            infer_gs: predict Gaussians too.
            use_ray_pose: take cameras from the predicted rays instead of the camera tokens.
            ref_view_strategy: which of three and more views without known cameras leads.
            export_rays: return the ray maps.

        Returns:
            `depth`, `depth_conf` (B, N, H, W); `extrinsics` (B, N, 3, 4) world-to-camera; `intrinsics` (B, N, 3, 3);
            `aux` with `feat_layer_<i>` (B, N, h, w, C) for each layer asked for; where asked for `ray`
            (B, N, 8h, 8w, 6), direction and origin, `ray_conf` (B, N, 8h, 8w).

        Raises:
            InputError: shapes, layers or strategy are not as above.
        """
        check_images(images)
        check_cameras(images, extrinsics, intrinsics)
        check_layers(export_feat_layers, self.backbone.config.depth)
        check_strategy(ref_view_strategy)

        views = self.embed_views(images, export_feat_layers)
        features = self.join_views(
            views, extrinsics, intrinsics, ref_view_strategy=ref_view_strategy, export_feat_layers=export_feat_layers
        )
        output: dict[str, Any] = self.decode_depth(features, rays=export_rays or use_ray_pose)
        output["extrinsics"], output["intrinsics"] = self.decode_cameras(features)
        output["aux"] = {f"feat_layer_{i}": x.unflatten(2, features.grid) for i, x in features.exported.items()}
        return output

    def embed_views(self, images: Tensor, export_feat_layers: Collection[int] = ()) -> ViewTokens:
        """What the backbone makes of each view by itself."""
        return self.backbone.embed_views(images, export_feat_layers)

    def join_views(
        self,
        views: ViewTokens,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        ref_view_strategy: ReferenceViewStrategy = "saddle_balanced",
        export_feat_layers: Collection[int] = (),
    ) -> Features:
        """Let views meet, led by their known cameras or by a reference view."""
        camera_tokens = None
        if extrinsics is not None and intrinsics is not None:
            with full_precision(views.tokens):
                camera_tokens = self.cam_enc(extrinsics.float(), intrinsics.float(), image_size(views))
        return self.backbone.join_views(
            views, camera_tokens, ref_view_strategy=ref_view_strategy, export_layers=export_feat_layers
        )

    def decode_depth(
        self, features: Features, *, views: slice | Tensor = slice(None), rays: bool = False
    ) -> dict[str, Tensor]:
        """`depth`, `depth_conf` and, if asked for, `ray`, `ray_conf` of all views or some of them."""
        with full_precision(features.camera_tokens):
            return decode_views(self.head, *(x[:, views] for x in features.maps), grid=features.grid, rays=rays)

    def decode_cameras(self, features: Features) -> tuple[Tensor, Tensor]:
        """World-to-camera transforms (B, N, 3, 4) and intrinsics (B, N, 3, 3) of all views."""
        with full_precision(features.camera_tokens):
            return self.cam_dec(features.camera_tokens, image_size(features))


def full_precision(like: Tensor) -> torch.autocast:
    """A context without autocast on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)


def image_size(tokens: ViewTokens | Features) -> tuple[int, int]:
    return PATCH_SIZE * tokens.grid[0], PATCH_SIZE * tokens.grid[1]
