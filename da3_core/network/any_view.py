# SPDX-License-Identifier: Apache-2.0
"""The any-view network: images of one scene to depth, confidence, cameras and, on demand, rays and Gaussians."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor, nn

from da3_core.network.camera import CameraDecoder, CameraEncoder
from da3_core.network.config import AnyViewConfig, RefViewStrategy
from da3_core.network.dpt import DualDpt, decode_views
from da3_core.network.gaussian import GaussianDpt, place_gaussians
from da3_core.network.kept_views import KnownViews
from da3_core.network.precision import full_precision
from da3_core.network.ray_pose import cameras_from_rays
from da3_core.network.requests import check_cameras, check_gaussians, check_images, check_layers, check_strategy
from da3_core.network.vit import Backbone, Features, ViewTokens

_NOT_DECODED = {"depth": float("nan"), "depth_conf": 1.0}  # what else there is, is 0


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
        if config.camera_encoder:
            self.cam_enc = CameraEncoder(config.backbone.width)
        self.cam_dec = CameraDecoder(width)
        if config.gaussians:
            self.gs_head = GaussianDpt(width, config.head)

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
        export_rays: bool = False,
        known: KnownViews | None = None,
        decoded: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Depth and cameras of every view.

        Args:
            images: (B, N, 3, H, W) normalised RGB, sides multiples of 14.
            extrinsics: (B, N, 4, 4) known world-to-camera transforms, used as they are. Needs `intrinsics`. A network
                without a camera encoder does not see them.
            intrinsics: (B, N, 3, 3) in pixels of the images.
            export_feat_layers: backbone blocks whose normalised patch tokens are returned.
            infer_gs: predict Gaussians too.
            use_ray_pose: take cameras from the predicted rays instead of the camera tokens.
            ref_view_strategy: which of three and more views without known cameras leads.
            export_rays: return the ray maps.
            known: names of the views of one scene, whose tokens are kept and not computed again.
            decoded: the views whose depth is wanted, by number; that of others is NaN, their confidence 1. None for
                all, which rays and Gaussians need in any case.

        Returns:
            `depth`, `depth_conf` (B, N, H, W); `extrinsics` (B, N, 3, 4) world-to-camera; `intrinsics` (B, N, 3, 3);
            `class_tokens` (B, N, C), what each view is like by itself; `aux` with `feat_layer_<i>` (B, N, h, w, C) for
            each layer asked for; where asked for `ray` (B, N, 8h, 8w, 6), direction and origin, `ray_conf`
            (B, N, 8h, 8w), and `gaussians`.

        Raises:
            InputError: shapes, layers or strategy are not as above.
        """
        check_images(images)
        check_cameras(images, extrinsics, intrinsics)
        check_layers(export_feat_layers, self.backbone.config.depth)
        check_strategy(ref_view_strategy)
        check_gaussians(infer_gs, hasattr(self, "gs_head"))

        views = self.embed_views(images, export_feat_layers, known)
        features = self.join_views(
            views, extrinsics, intrinsics, ref_view_strategy=ref_view_strategy, export_feat_layers=export_feat_layers
        )
        if decoded is None or export_rays or use_ray_pose or infer_gs:
            output: dict[str, Any] = self.decode_depth(features, rays=export_rays or use_ray_pose)
        else:
            chosen = list(decoded)
            some = self.decode_depth(features, views=chosen)
            output = {name: _among_all(name, value, chosen, images.shape[1]) for name, value in some.items()}
        if use_ray_pose:
            cameras = cameras_from_rays(output["ray"], output["ray_conf"], features.image_size)
        else:
            cameras = self.decode_cameras(features)
        output["extrinsics"], output["intrinsics"] = cameras
        if infer_gs:
            output["gaussians"] = self.decode_gaussians(features, images, output["depth"], cameras, extrinsics)
        if not export_rays:
            output = {name: value for name, value in output.items() if name not in ("ray", "ray_conf")}
        return output | {"class_tokens": views.class_tokens, "aux": features.aux()}

    def embed_views(
        self, images: Tensor, export_feat_layers: Collection[int] = (), known: KnownViews | None = None
    ) -> ViewTokens:
        """What the backbone makes of each view by itself."""
        return self.backbone.embed_views(images, export_feat_layers, known)

    def join_views(
        self,
        views: ViewTokens,
        extrinsics: Tensor | None = None,
        intrinsics: Tensor | None = None,
        *,
        ref_view_strategy: RefViewStrategy = "saddle_balanced",
        export_feat_layers: Collection[int] = (),
    ) -> Features:
        """Let views meet, led by their known cameras or by a reference view."""
        camera_tokens = None
        if extrinsics is not None and intrinsics is not None and hasattr(self, "cam_enc"):
            with full_precision(views.tokens):
                camera_tokens = self.cam_enc(extrinsics.float(), intrinsics.float(), views.image_size)
        return self.backbone.join_views(
            views, camera_tokens, ref_view_strategy=ref_view_strategy, export_layers=export_feat_layers
        )

    def decode_depth(
        self, features: Features, *, views: slice | Tensor | list[int] = slice(None), rays: bool = False
    ) -> dict[str, Tensor]:
        """`depth`, `depth_conf` and, if asked for, `ray`, `ray_conf` of all views or some of them."""
        maps = [tokens[:, views] for tokens in features.maps]
        with full_precision(features.camera_tokens):
            return decode_views(self.head, *maps, grid=features.grid, rays=rays)

    def decode_cameras(self, features: Features) -> tuple[Tensor, Tensor]:
        """World-to-camera transforms (B, N, 3, 4) and intrinsics (B, N, 3, 3) of all views."""
        with full_precision(features.camera_tokens):
            return self.cam_dec(features.camera_tokens, features.image_size)

    def decode_gaussians(
        self,
        features: Features,
        images: Tensor,
        depth: Tensor,
        cameras: tuple[Tensor, Tensor],
        given_extrinsics: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Gaussians of all views, placed by their depth and predicted cameras, see `place_gaussians`."""
        with full_precision(images):
            values = decode_views(self.gs_head, *features.maps, images, grid=features.grid)
            return place_gaussians(values["raw"], values["opacity"], depth, *cameras, given_extrinsics)


def _among_all(name: str, values: Tensor, chosen: list[int], views: int) -> Tensor:
    """Values (B, V, ...) of the `chosen` of so many `views` (B, N, ...)."""
    every = values.new_full((values.shape[0], views, *values.shape[2:]), _NOT_DECODED.get(name, 0.0))
    every[:, chosen] = values
    return every
