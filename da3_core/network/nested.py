# SPDX-License-Identifier: Apache-2.0
"""The nested network: an any-view network gives geometry, a metric network its scale in metres."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import NestedConfig, RefViewStrategy
from da3_core.network.kept_views import KnownViews
from da3_core.network.monocular import MIN_PIXELS, SKY_FROM, MonocularNetwork, far_depth, quantile

CANONICAL_FOCAL = 300.0  # pixels; the metric network gives metres for this focal length
_MAX_SKY_DEPTH_M = 200.0
_MIN_METRIC_DEPTH, _MIN_DEPTH = 0.01, 0.001
_log = logging.getLogger(__name__)


class NestedNetwork(nn.Module):
    """Both networks see the same images; only the any-view one sees known cameras."""

    def __init__(self, config: NestedConfig) -> None:
        super().__init__()
        self.da3 = AnyViewNetwork(config.any_view)
        self.da3_metric = MonocularNetwork(config.metric)

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
        """The output of the any-view network with `depth` and `extrinsics` in metres, see `into_metres`.

        Gaussians and features stay as the any-view network gave them. All views are `decoded`, since the metre is found
        by all of them.
        """
        output = self.da3(
            images,
            extrinsics,
            intrinsics,
            export_feat_layers=export_feat_layers,
            infer_gs=infer_gs,
            use_ray_pose=use_ray_pose,
            ref_view_strategy=ref_view_strategy,
            known=known,
        )
        metric = self.da3_metric(images, known=known)
        return into_metres(output, metric["depth"], metric["sky"])


def into_metres(output: dict[str, Any], metric_depth: Tensor, sky: Tensor) -> dict[str, Any]:
    """Scale depth and translations so that confident depth agrees with metric depth, and push the sky away.

    Adds the raw `sky`, `scale_factor` (metres per network unit, one number for all views) and `is_metric`. Where too
    little but sky is seen to find a scale, it is 1 and `is_metric` 0.
    """
    focal = (output["intrinsics"][..., 0, 0] + output["intrinsics"][..., 1, 1]) / 2
    metric_depth = metric_depth * (focal / CANONICAL_FOCAL)[..., None, None]
    ground = sky < SKY_FROM
    scale = find_scale(output["depth"], output["depth_conf"], metric_depth, ground)
    if scale is None:
        _log.warning("too few pixels to find the metric scale of %d views: their scale stays unknown", ground.shape[1])
    factor = 1.0 if scale is None else scale

    depth = output["depth"] * factor
    if ground.any():
        depth = torch.where(ground, depth, far_depth(depth[ground]).clamp(max=_MAX_SKY_DEPTH_M))
    rotation, translation = output["extrinsics"].split((3, 1), dim=-1)
    return output | {
        "depth": depth,
        "depth_conf": torch.where(ground, output["depth_conf"], 1.0),
        "extrinsics": torch.cat((rotation, translation * factor), dim=-1),
        "sky": sky,
        "scale_factor": factor,
        "is_metric": int(scale is not None),
    }


def find_scale(depth: Tensor, confidence: Tensor, metric_depth: Tensor, ground: Tensor) -> float | None:
    """Least-squares scale from depth to metric depth over the more confident half of what is not sky."""
    if int(ground.sum()) <= MIN_PIXELS:
        return None
    trusted = ground & (confidence >= quantile(confidence[ground], 0.5))
    trusted &= (metric_depth > _MIN_METRIC_DEPTH) & (depth > _MIN_DEPTH)
    if not trusted.any():
        return None
    x, y = depth[trusted], metric_depth[trusted]
    return float((x * y).sum() / (x * x).sum().clamp(min=1e-12))
