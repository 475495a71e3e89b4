# SPDX-License-Identifier: Apache-2.0
"""Checks of what a network is asked to do, each refused with one sentence."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from torch import Tensor

from da3_core.errors import InputError
from da3_core.network.config import PATCH_SIZE, RefViewStrategy


def check_images(images: Tensor) -> None:
    """Refuse anything but (B, N, 3, H, W) with sides that are multiples of the patch."""
    shape = tuple(images.shape)
    if len(shape) != 5 or shape[2] != 3 or 0 in shape:
        raise InputError(f"images have shape {shape}: pass scenes x views x 3 x height x width")
    if shape[3] % PATCH_SIZE or shape[4] % PATCH_SIZE:
        raise InputError(f"images are {shape[3]}x{shape[4]} pixels: resize both sides to multiples of {PATCH_SIZE}")


def check_layers(layers: Collection[int], depth: int) -> None:
    """Refuse indices of blocks that the backbone does not have."""
    wrong = [layer for layer in layers if layer not in range(depth)]
    if wrong:
        raise InputError(f"export_feat_layers asks for {wrong}: this model has the layers 0 to {depth - 1}")


def check_cameras(images: Tensor, extrinsics: Tensor | None, intrinsics: Tensor | None) -> None:
    """Refuse poses without intrinsics and shapes that do not fit the images."""
    if extrinsics is None:
        return
    if intrinsics is None:
        raise InputError("extrinsics came without intrinsics: conditioning on known poses needs both")
    views = tuple(images.shape[:2])
    if tuple(extrinsics.shape) not in ((*views, 4, 4), (*views, 3, 4)) or tuple(intrinsics.shape) != (*views, 3, 3):
        raise InputError(
            f"extrinsics {tuple(extrinsics.shape)} and intrinsics {tuple(intrinsics.shape)} do not fit "
            f"{views[0]} scenes of {views[1]} views: pass {(*views, 4, 4)} and {(*views, 3, 3)}"
        )


def check_strategy(ref_view_strategy: str) -> None:
    """Refuse unknown names of a reference-view strategy."""
    known = get_args(RefViewStrategy)
    if ref_view_strategy not in known:
        raise InputError(f"unknown ref_view_strategy {ref_view_strategy!r}: use one of {', '.join(known)}")


def check_gaussians(wanted: bool, has_head: bool) -> None:
    """Refuse Gaussians of a network that has no head for them."""
    if wanted and not has_head:
        raise InputError("infer_gs was asked of a model without a Gaussian head: use da3-giant or a nested model")
