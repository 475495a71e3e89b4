# SPDX-License-Identifier: Apache-2.0
"""What the networks make of tokens and maps: heads, cameras, Gaussians, sky and scale, against golden units."""

import logging

import numpy as np
import pytest
import torch
from golden import GoldenCase, deviation, golden_unit
from torch import Tensor

from da3_core.network import dpt
from da3_core.network.camera import decode_cameras, encode_cameras, quaternion_from_matrix
from da3_core.network.gaussian import place_gaussians, rotate_harmonics
from da3_core.network.monocular import fill_sky, quantile
from da3_core.network.nested import into_metres
from da3_core.network.ray_pose import cameras_from_rays, draw_samples, solve_view


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
