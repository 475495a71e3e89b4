# SPDX-License-Identifier: Apache-2.0
"""Parts of the networks against golden units and hand-worked truths, and what the whole promises on a small scale."""

import logging
import re

import numpy as np
import pytest
import torch
from golden import GoldenCase, deviation, golden_unit, manifest, manifests
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from da3_core.errors import InputError
from da3_core.network import build_network, dpt
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.attention import attend, rotary_angles, rotary_table, rotate, rotate_across
from da3_core.network.camera import decode_cameras, encode_cameras, quaternion_from_matrix
from da3_core.network.config import AnyViewConfig, BackboneConfig, HeadConfig, MonocularConfig
from da3_core.network.gaussian import place_gaussians, rotate_harmonics
from da3_core.network.monocular import MonocularNetwork, fill_sky, quantile
from da3_core.network.nested import into_metres
from da3_core.network.ray_pose import cameras_from_rays, draw_samples, solve_view
from da3_core.network.reference_view import choose_reference, reference_first, reorder
from da3_core.network.untrained import initialise_untrained
from da3_core.network.vit import ViewTokens, resample_positions
from da3_core.presets import PRESETS, find_preset

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
        found = nn.ModuleDict({"model": build_network(find_preset(name))}).state_dict(keep_vars=True)
    official = manifest(name)
    assert {key: tuple(parameter.shape) for key, parameter in found.items()} == {k: s for k, (s, _) in official.items()}
    for key, (_, stored) in official.items():
        assert stored is None or found[key] is found[stored], f"{key} is not one with {stored}"


def test_norms_have_the_eps_they_were_trained_with() -> None:
    """Too small a difference for golden outputs to show."""
    with torch.device("meta"):
        network = build_network(find_preset("da3-small"))
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
    assert (giant.has_poses, giant.has_confidence, giant.has_sky, giant.has_gaussians) == (True, True, False, True)
    assert (metric.has_poses, metric.has_confidence, metric.has_sky, metric.has_gaussians) == (
        False,
        False,
        True,
        False,
    )
    assert (nested.has_poses, nested.has_sky, nested.has_gaussians, nested.depth_blocks) == (True, True, True, 40)
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


# Heads


def test_uv_embedding() -> None:
    golden = golden_unit("uvembed")
    for channels, size, image in ((32, (6, 8), (84, 112)), (48, (9, 7), (126, 98)), (128, (20, 16), (140, 112))):
        found = dpt.add_uv(torch.zeros(1, channels, *size), image)[0]
        assert deviation(found, golden[f"embed_C{channels}_{size[0]}x{size[1]}_img{image[0]}x{image[1]}"]) < 1e-5


def test_resize_in_parts_equals_resize_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 10, 5, 7, generator=torch.Generator().manual_seed(0))
    at_once = dpt.resize(x, (9, 11))
    monkeypatch.setattr(dpt, "_MAX_RESIZED", 3 * 2 * 9 * 11)
    assert deviation(dpt.resize(x, (9, 11)), at_once) < 1e-6


def test_pose_encoding() -> None:
    golden = golden_unit("pose")
    extrinsics, intrinsics = decode_cameras(golden["pose_enc"], (196, 252))
    assert deviation(extrinsics, golden["w2c"]) < 1e-6
    assert deviation(intrinsics, golden["intrinsics"]) < 1e-6
    assert deviation(quaternion_from_matrix(golden["matrices"]), golden["quats_xyzw"]) < 1e-6
    assert deviation(encode_cameras(golden["w2c_in"], golden["K_in"], (196, 252)), golden["enc_out"]) < 1e-6


def test_gaussians() -> None:
    golden = golden_unit("gsadapter")
    inputs = (golden["raw"], golden["density"], golden["depth"], golden["w2c"][..., :3, :], golden["K"])
    for prefix, given in (("", None), ("gt_", golden["w2c_gt"])):
        for name, value in place_gaussians(*inputs, given).items():
            assert deviation(value, golden[prefix + name]) < 1e-5, name


def test_turned_harmonics_look_the_same_from_turned_directions() -> None:
    golden = golden_unit("sh")
    assert deviation(rotate_harmonics(golden["coeff"], golden["rot"]), golden["out"]) < 1e-4


@pytest.mark.parametrize("case", ["clean_centred", "clean_offcentre", "noisy_outliers", "large_subsampled"])
def test_cameras_from_rays(case: str) -> None:
    golden = golden_unit("raypose")
    rays, confidence = golden[f"{case}_ray"], golden[f"{case}_conf"]
    samples = golden[f"{case}_sample_idx"].long()
    size = (rays.shape[2], rays.shape[3])
    for v in range(rays.shape[1]):
        ray, weight = rays[0, v].flatten(0, 1), confidence[0, v].flatten()
        pose, focal, centre = solve_view(ray, weight, size, samples, torch.Generator().manual_seed(5))
        assert deviation(pose, golden[f"{case}_c2w"][0, v, :3]) < 1e-3
        assert deviation(focal, golden[f"{case}_focal"][0, v]) < 1e-3
        assert deviation(centre, golden[f"{case}_pp"][0, v]) < 1e-3
    extrinsics, _ = cameras_from_rays(rays, confidence, (14, 14))
    assert deviation(extrinsics, golden[f"{case}_w2c"]) < 1e-3


def test_cameras_from_rays_of_a_known_camera() -> None:
    """Rays built from a camera give that camera back, pixels included."""
    golden = golden_unit("raypose")
    focal, centre = golden["clean_centred_true_focal_pp"].split(2)
    height, width = 280, 392
    extrinsics, intrinsics = cameras_from_rays(
        golden["clean_centred_ray"], golden["clean_centred_conf"], (height, width)
    )
    truth = torch.linalg.inv(golden["clean_centred_true_c2w"].double())[:, :3]
    assert deviation(extrinsics[0], truth) < 1e-4
    half = torch.tensor([width, height]) / 2
    assert deviation(intrinsics[0, 0].diagonal()[:2], focal * half) < 1e-3
    assert deviation(intrinsics[0, 0, :2, 2], centre * half) < 1e-3


def test_cameras_from_the_rays_of_the_official_network() -> None:
    """The first view of a random network happens to be well enough conditioned to compare."""
    golden = GoldenCase("small_v2_196x252_raypose").arrays()
    rays, confidence = torch.from_numpy(golden["ray"]), torch.from_numpy(golden["ray_conf"])
    extrinsics, intrinsics = cameras_from_rays(rays, confidence, (196, 252))
    assert deviation(extrinsics[:, 0], golden["extrinsics"][:, 0]) < 1e-3
    assert deviation(intrinsics[:, 0], golden["intrinsics"][:, 0]) < 1e-3


def test_ray_samples_are_always_the_same() -> None:
    state = torch.get_rng_state()
    first, second = (draw_samples(1000, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (100, 8)
    assert int(first.max()) < 300
    assert all(len(set(row)) == 8 for row in first.tolist())


# Sky and scale


def test_sky_fill() -> None:
    golden = golden_unit("monosky")
    for i in range(3):
        assert deviation(fill_sky(golden[f"depth{i}"], golden[f"sky{i}"]), golden[f"out{i}"]) < 1e-5


def test_quantile_is_exact_beyond_any_sample() -> None:
    values = torch.rand(300_001, generator=torch.Generator().manual_seed(0)) ** 3
    for fraction in (0.0, 0.5, 0.99, 1.0):
        assert float(quantile(values, fraction)) == pytest.approx(
            float(np.quantile(values.numpy(), fraction)), rel=1e-6
        )


def any_view_output(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"depth": "depth", "depth_conf": "conf", "extrinsics": "w2c", "intrinsics": "K"}
    return {name: golden[short] for name, short in names.items()}


def test_metric_scale() -> None:
    golden = golden_unit("nested")
    found = into_metres(any_view_output(golden), golden["metric_depth"], golden["sky"])
    assert deviation(found["depth"], golden["out_depth"]) < 1e-5
    assert deviation(found["depth_conf"], golden["out_conf"]) < 1e-5
    assert deviation(found["extrinsics"], golden["out_w2c"]) < 1e-5
    assert found["scale_factor"] == pytest.approx(float(golden["scale"]), rel=1e-5)
    assert found["is_metric"] == 1
    assert torch.equal(found["sky"], golden["sky"])


@pytest.mark.parametrize("blind", ["sky", "dark"])
def test_without_ground_the_scale_stays_unknown(blind: str, caplog: pytest.LogCaptureFixture) -> None:
    golden = golden_unit("nested")
    metric_depth = golden["metric_depth"] * (0 if blind == "dark" else 1)
    sky = torch.ones_like(golden["sky"]) if blind == "sky" else torch.zeros_like(golden["sky"])
    with caplog.at_level(logging.WARNING):
        found = into_metres(any_view_output(golden), metric_depth, sky)
    assert len(caplog.records) == 1
    assert (found["scale_factor"], found["is_metric"]) == (1.0, 0)
    assert torch.equal(found["depth"], golden["depth"])
    assert torch.equal(found["extrinsics"], golden["w2c"])
    assert torch.equal(found["depth_conf"], torch.ones_like(golden["conf"]) if blind == "sky" else golden["conf"])


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
