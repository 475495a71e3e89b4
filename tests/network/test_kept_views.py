# SPDX-License-Identifier: Apache-2.0
"""Windows of a stream that keep what they know of single views give what whole windows give."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from da3_core.network import build_network
from da3_core.network.config import (
    AnyViewConfig,
    BackboneConfig,
    HeadConfig,
    MonocularConfig,
    NestedConfig,
    NetworkConfig,
    RefViewStrategy,
)
from da3_core.network.kept_views import KeptViews
from da3_core.network.untrained import initialise_untrained

FRAMES, WINDOW, HEIGHT, WIDTH = 6, 4, 42, 56
_HEAD = HeadConfig((8, 8, 8, 8), features=8)
_JOINT = BackboneConfig(64, depth=8, feed_forward="mlp", hidden=64, out_layers=(1, 3, 5, 7), joint_from=2)
_ALONE = BackboneConfig(64, depth=4, feed_forward="mlp", hidden=64, out_layers=(0, 1, 2, 3), joint_from=None)
NETWORKS: dict[str, NetworkConfig] = {
    "any-view": AnyViewConfig(_JOINT, _HEAD),
    "wide feed-forward": AnyViewConfig(replace(_JOINT, feed_forward="swiglu"), _HEAD),
    "embedded": AnyViewConfig(replace(_JOINT, rotary=False), _HEAD, camera_encoder=False),
    "Gaussians": AnyViewConfig(_JOINT, _HEAD, gaussians=True),
    "monocular": MonocularConfig(_ALONE, _HEAD),
    "nested": NestedConfig(AnyViewConfig(_JOINT, _HEAD), MonocularConfig(_ALONE, _HEAD)),
}


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.randn(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def built(kind: str) -> tuple[nn.Module, list[int]]:
    """A network, and how many images it embeds in each of its passes, noted as it goes."""
    network = build_network(NETWORKS[kind])
    initialise_untrained(network)
    embedded: list[int] = []
    for name, part in network.named_modules():
        if name.endswith("patch_embed.proj"):
            part.register_forward_pre_hook(lambda part, inputs: embedded.append(len(inputs[0])))
    return network, embedded


def of_views(output: dict[str, object], decoded: list[int]) -> dict[str, object]:
    """An output without the depth of the other views."""
    depth, confidence = output["depth"], output["depth_conf"]
    assert isinstance(depth, Tensor)
    assert isinstance(confidence, Tensor)
    left_out = torch.ones(depth.shape[1], dtype=torch.bool)
    left_out[decoded] = False
    return output | {
        "depth": depth.masked_fill(left_out[:, None, None], torch.nan),
        "depth_conf": confidence.masked_fill(left_out[:, None, None], 1.0),
    }


def assert_same(plain: dict[str, object], fast: dict[str, object]) -> None:
    assert plain.keys() == fast.keys()
    for name, value in plain.items():
        other = fast[name]
        if isinstance(value, dict):
            assert isinstance(other, dict)
            assert_same(value, other)
        elif isinstance(value, Tensor):
            assert isinstance(other, Tensor)
            largest = float(value.nan_to_num().abs().max())
            torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-5 * largest, equal_nan=True, msg=name)
        else:
            assert other == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_kept_views_and_left_out_depth_change_nothing_else(kind: str, stride: int, frames: Tensor) -> None:
    network, embedded = built(kind)
    options: dict[str, object] = {"export_feat_layers": [0, 3]}
    if kind == "Gaussians":
        options["infer_gs"] = True
    skips = kind not in ("Gaussians", "monocular", "nested")  # which need all views
    for strategy in get_args(RefViewStrategy):
        kept, seen = KeptViews(), 0
        for start in range(0, FRAMES - WINDOW + 1, stride):
            window, names = frames[None, start : start + WINDOW], range(start, start + WINDOW)
            plain = network(window, ref_view_strategy=strategy, **options)
            embedded.clear()
            new = [i for i, name in enumerate(names) if name >= seen]
            fast = network(window, ref_view_strategy=strategy, known=kept.known(names), decoded=new, **options)
            assert_same(of_views(plain, new) if skips else plain, fast)
            assert set(embedded) == {start + WINDOW - seen}
            seen = start + WINDOW


@torch.inference_mode()
def test_views_by_any_order_and_twice(frames: Tensor) -> None:
    network, embedded = built("any-view")
    kept = KeptViews()
    network(frames[None, :3], known=kept.known(["a", "b", "c"]))
    embedded.clear()
    chosen = frames[None, [2, 0, 2, 3]]
    assert_same(network(chosen), network(chosen, known=kept.known(["c", "a", "c", "d"])))
    assert embedded == [4, 1]


@torch.inference_mode()
def test_what_is_kept_is_bounded(frames: Tensor) -> None:
    network, embedded = built("any-view")
    kept = KeptViews(most_bytes=1)
    for start in range(3):
        network(frames[None, start : start + 2], known=kept.known(range(start, start + 2)))
    assert embedded == [2, 1, 1]
    of_one = kept.bytes / 2
    network(frames[None, :1], known=kept.known([0]))
    assert embedded[-1] == 1
    assert kept.bytes == of_one


@torch.inference_mode()
def test_another_size_is_another_image(frames: Tensor) -> None:
    network, embedded = built("any-view")
    kept = KeptViews()
    for images in (frames[None, :1], frames[None, :1, :, :, :42]):
        assert_same(network(images), network(images, known=kept.known([0])))
    assert embedded == [1, 1, 1, 1]
