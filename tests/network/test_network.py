# SPDX-License-Identifier: Apache-2.0
"""Presets, the backbone against golden units, and what a whole network promises, on a small scale."""

import re

import pytest
import torch
from golden import deviation, golden_unit, manifest, manifests
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from da3_core.errors import InputError
from da3_core.model.presets import PRESETS, find_preset
from da3_core.network import build_network
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.attention import (
    attend,
    attend_by_xformers,
    rotary_angles,
    rotary_table,
    rotate,
    rotate_across,
    use_attention,
)
from da3_core.network.config import AnyViewConfig, BackboneConfig, HeadConfig, MonocularConfig
from da3_core.network.monocular import MonocularNetwork
from da3_core.network.reference_view import choose_reference, reference_first, reorder
from da3_core.network.untrained import initialise_untrained
from da3_core.network.vit import ViewTokens, resample_positions

BACKBONE = BackboneConfig(128, depth=10, feed_forward="swiglu", hidden=128, out_layers=(3, 5, 7, 9), joint_from=3)
HEAD = HeadConfig((16, 16, 24, 24), features=32)
VIEWS, HEIGHT, WIDTH = 5, 42, 56


@pytest.fixture(scope="module")
def network() -> AnyViewNetwork:
    """All parts of da3-giant, small."""
    network = AnyViewNetwork(AnyViewConfig(BACKBONE, HEAD, gaussians=True)).eval()
    initialise_untrained(network)
    return network


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, VIEWS, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


# Presets and parameters


@pytest.mark.parametrize("name", manifests())
def test_state_dict_is_the_official_one(name: str) -> None:
    with torch.device("meta"):
        found = nn.ModuleDict({"model": build_network(find_preset(name).network)}).state_dict(keep_vars=True)
    official = manifest(name)
    assert {key: tuple(parameter.shape) for key, parameter in found.items()} == {k: s for k, (s, _) in official.items()}
    for key, (_, stored) in official.items():
        assert stored is None or found[key] is found[stored], f"{key} is not one with {stored}"


def test_norms_have_the_eps_they_were_trained_with() -> None:
    """Too small a difference for golden outputs to show."""
    with torch.device("meta"):
        network = build_network(find_preset("da3-small").network)
    eps = {name: module.eps for name, module in network.named_modules() if isinstance(module, nn.LayerNorm)}
    block_norms = {name for name in eps if ".blocks." in name and name.endswith(("norm1", "norm2"))}
    assert len(block_norms) == 24
    assert {eps.pop(name) for name in block_norms} == {1e-6}
    assert "backbone.pretrained.blocks.4.attn.q_norm" in eps
    assert set(eps.values()) == {1e-5}


def test_presets() -> None:
    assert find_preset("depth-anything/DA3-LARGE-1.1") is find_preset("da3-large-1.1") is find_preset("DA3-LARGE-1.1")
    assert find_preset("da3-large-1.1").architecture == "da3-large"
    assert {name for name, preset in PRESETS.items() if not preset.is_permissive} == {
        "da3-large",
        "da3-large-1.1",
        "da3-giant",
        "da3-giant-1.1",
        "da3nested-giant-large",
        "da3nested-giant-large-1.1",
    }
    giant, metric, nested = (find_preset(name) for name in ("da3-giant", "da3metric-large", "da3nested-giant-large"))
    assert (giant.has_poses, giant.has_gaussians) == (True, True)
    assert (metric.has_poses, metric.has_gaussians) == (False, False)
    assert (nested.has_poses, nested.has_gaussians, nested.depth_blocks) == (True, True, 40)
    with pytest.raises(InputError, match="unknown model 'da3-huge': use one of da3-small, "):
        find_preset("da3-huge")


# Backbone


def test_position_embedding() -> None:
    golden = golden_unit("posembed")
    for height, width in ((196, 252), (280, 364), (504, 378), (14, 14), (518, 504), (126, 168), (700, 70)):
        found = resample_positions(golden["pos_embed"], height // 14, width // 14)
        assert deviation(found, golden[f"out_{height}x{width}"]) < 1e-5


def test_position_embedding_is_kept_until_the_weights_change(network: AnyViewNetwork) -> None:
    transformer = network.backbone.pretrained
    first = transformer.position_embedding(3, 4)
    assert transformer.position_embedding(3, 4) is first
    for height in range(5, 15):
        transformer.position_embedding(height, 4)
    assert len(transformer._positions) <= 4
    state = {name: value.clone() for name, value in transformer.state_dict().items()}
    transformer.load_state_dict(state | {"pos_embed": 2 * state["pos_embed"]})
    assert torch.allclose(transformer.position_embedding(3, 4), 2 * first)
    transformer.load_state_dict(state)


def test_rotary_positions() -> None:
    golden = golden_unit("rope")
    query = golden["q"].transpose(1, 2)  # (B, T, heads, channels)
    for kind in ("local", "global"):
        found = rotate(query, rotary_angles(golden[f"pos_{kind}"][0], 64)).transpose(1, 2)
        assert deviation(found, golden[f"out_{kind}"]) < 1e-5
    local = rotary_table(4, 5, 64, torch.device("cpu"))
    assert deviation(rotate(query, local).transpose(1, 2), golden["out_local"]) < 1e-5


def test_turning_special_tokens_back_equals_turning_all_patches() -> None:
    views, table = 3, rotary_table(4, 5, 64, torch.device("cpu"))
    one_place = torch.cat((torch.zeros(1, 2), torch.ones(20, 2))).repeat(views, 1)
    query, key = torch.randn(2, 1, views * 21, 2, 64, generator=torch.Generator().manual_seed(0))

    def scores(rotated_query: Tensor, rotated_key: Tensor) -> Tensor:
        return torch.einsum("bqhc,bkhc->bhqk", rotated_query, rotated_key)

    plain = scores(*(rotate(x, rotary_angles(one_place, 64)) for x in (query, key)))
    fast = scores(*(rotate_across(x, table, views) for x in (query, key)))
    assert deviation(fast, plain) < 1e-5


def test_attention_memory_is_bounded_without_a_fused_kernel() -> None:
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **kwargs or {})
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    query, key, value = torch.randn(3, 1, 2, 700, 16, generator=torch.Generator().manual_seed(0))
    expected = scaled_dot_product_attention(query, key, value)
    limit = 100 * 2 * 700
    with sdpa_kernel(SDPBackend.MATH), Largest() as largest:
        found = attend(query, key, value, max_scores=limit)
    assert largest.elements <= limit
    assert deviation(found, expected) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="xformers computes on CUDA only")
def test_attention_by_xformers_is_the_same() -> None:
    pytest.importorskip("xformers.ops")
    query, key, value = torch.randn(3, 2, 6, 700, 64, device="cuda")
    assert deviation(attend_by_xformers(query, key, value), attend(query, key, value)) < 1e-4


def test_attention_by_xformers_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(InputError, match="on cpu: move it to cuda"):
        attend_by_xformers(*torch.randn(3, 1, 2, 7, 64))
    with pytest.raises(InputError, match="attention is 'flash'; allowed are torch, xformers"):
        use_attention(torch.nn.Identity(), "flash")  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_reference_view(case: str) -> None:
    golden = golden_unit("refview")
    for strategy in ("first", "middle", "saddle_balanced", "saddle_sim_range"):
        chosen = choose_reference(golden[f"x_{case}"][:, :, 0], strategy)
        assert chosen.tolist() == golden[f"idx_{case}_{strategy}"].tolist()


def test_reordering_views() -> None:
    golden = golden_unit("refview")
    order = reference_first(golden["order_idx"], golden["order_in"].shape[1])
    assert torch.equal(reorder(golden["order_in"], order), golden["order_out"])
    assert torch.equal(reorder(golden["order_out"], order.argsort(dim=1)), golden["order_in"])


# The whole network, small


def test_untrained_output_is_sane_and_depends_on_the_image(network: AnyViewNetwork, images: Tensor) -> None:
    first, second = network(images), network(images.flip(-1))
    assert all(value.isfinite().all() for name, value in first.items() if name != "aux")
    assert (first["depth"] > 0).all()
    assert (first["depth_conf"] > 1).all()
    for name in ("depth", "depth_conf"):
        assert float(first[name].log().std()) > 0.05
        assert deviation(second[name], first[name]) > 0.05


def test_two_calls_agree_to_the_bit_and_leave_the_generator_alone(network: AnyViewNetwork, images: Tensor) -> None:
    first = network(images, use_ray_pose=True, infer_gs=True)
    torch.manual_seed(17)
    state = torch.get_rng_state()
    second = network(images, use_ray_pose=True, infer_gs=True)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("depth", "depth_conf", "extrinsics", "intrinsics"):
        assert torch.equal(first[name], second[name])
    assert all(torch.equal(first["gaussians"][name], second["gaussians"][name]) for name in first["gaussians"])


def test_rays_are_computed_on_demand_only(network: AnyViewNetwork, images: Tensor) -> None:
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in network.head.named_modules()
        if "_aux" in name
    ]
    plain = network(images)
    assert ran == []
    full = network(images, export_rays=True)
    assert torch.equal(full["depth"], plain["depth"])
    convolutions = {name for name in ran if re.search(r"output_conv[12]_aux\.\d\.[013-5]$", name)}
    assert "scratch.output_conv1_aux.3.0" in convolutions
    assert not [name for name in convolutions if "_aux.3." not in name]
    for handle in handles:
        handle.remove()


def test_kept_views_and_chosen_views_give_what_the_whole_gives(network: AnyViewNetwork, images: Tensor) -> None:
    """What a stream relies on: views embedded one by one, then joined, then only some decoded."""
    whole = network(images)
    parts = [network.embed_views(images[:, v : v + 1]) for v in range(VIEWS)]
    views = ViewTokens(
        torch.cat([part.tokens for part in parts], dim=1),
        torch.cat([part.class_tokens for part in parts], dim=1),
        {},
        parts[0].grid,
    )
    features = network.join_views(views)
    extrinsics, _ = network.decode_cameras(features)
    assert deviation(extrinsics, whole["extrinsics"]) < 1e-5
    chosen = torch.tensor([3, 0])
    assert deviation(network.decode_depth(features, views=chosen)["depth"], whole["depth"][:, chosen]) < 1e-5


def test_many_views_are_decoded_in_parts(network: AnyViewNetwork, images: Tensor) -> None:
    scenes = torch.cat((images, images.flip(1)), dim=1).expand(2, -1, -1, -1, -1)  # 2 scenes of 10 views
    features = network.join_views(network.embed_views(scenes))
    at_once = network.decode_depth(features)["depth"]
    one_by_one = [network.decode_depth(features, views=slice(v, v + 1))["depth"] for v in range(2 * VIEWS)]
    assert at_once.shape == (2, 2 * VIEWS, HEIGHT, WIDTH)
    assert deviation(at_once, torch.cat(one_by_one, dim=1)) < 1e-5


def test_bfloat16_backbone_stays_close_and_returns_float32(network: AnyViewNetwork, images: Tensor) -> None:
    exact = network(images, export_feat_layers=[1, 6])
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images, export_feat_layers=[1, 6])
    assert {value.dtype for name, value in rough.items() if name != "aux"} == {torch.float32}
    error = ((rough["depth"] - exact["depth"]) / exact["depth"]).abs()
    assert 0 < float(error.median()) < 0.01
    assert deviation(rough["extrinsics"], exact["extrinsics"]) < 0.02


def test_features_are_named_by_layer_in_input_order(network: AnyViewNetwork, images: Tensor) -> None:
    aux = network(images, export_feat_layers=[6, 0, 6, 3])["aux"]
    assert set(aux) == {"feat_layer_0", "feat_layer_3", "feat_layer_6"}
    assert aux["feat_layer_6"].shape == (1, VIEWS, HEIGHT // 14, WIDTH // 14, 128)
    alone = network(images, export_feat_layers=[3])["aux"]["feat_layer_3"]
    assert torch.equal(aux["feat_layer_3"], alone)
    # led by the same view, the same images in another order give the same features in that order
    first = network(images, export_feat_layers=[6], ref_view_strategy="first")["aux"]["feat_layer_6"]
    order = torch.tensor([[1, 2, 0, 3, 4]])
    middle = network(reorder(images, order), export_feat_layers=[6], ref_view_strategy="middle")["aux"]["feat_layer_6"]
    assert deviation(middle, reorder(first, order)) < 1e-4


def test_refusals(network: AnyViewNetwork, images: Tensor) -> None:
    poses, calibration = torch.eye(4).expand(1, VIEWS, 4, 4), torch.eye(3).expand(1, VIEWS, 3, 3)
    for sentence, call in {
        "layers 0 to 9": lambda: network(images, export_feat_layers=[2, 10]),
        "layers 0 to 9 ": lambda: network(images, export_feat_layers=[-1]),
        "multiples of 14": lambda: network(images[..., :-1]),
        "scenes x views": lambda: network(images[0]),
        "needs both": lambda: network(images, poses),
        "do not fit": lambda: network(images, poses[:, 1:], calibration),
        "use one of saddle_balanced": lambda: network(images[:, :1], ref_view_strategy="last"),
    }.items():
        with pytest.raises(InputError, match=sentence.strip()):
            call()
    without_gaussians = AnyViewNetwork(AnyViewConfig(BACKBONE, HEAD))
    with pytest.raises(InputError, match="without a Gaussian head"):
        without_gaussians(images, infer_gs=True)
    monocular = MonocularNetwork(MonocularConfig(BACKBONE, HEAD))
    with pytest.raises(InputError, match="leave them out"):
        monocular(images, poses, calibration)
