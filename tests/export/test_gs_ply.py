# SPDX-License-Identifier: Apache-2.0
"""`gs_ply`, read back by plyfile."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from da3_core.errors import InputError
from da3_core.export import check_request, export
from da3_core.export.gaussians import gaussian_arrays
from da3_core.geometry.cameras import invert_rigid, normalise_trajectory
from da3_core.geometry.similarity import Similarity
from da3_core.model.presets import PRESETS
from da3_core.network.gaussian import place_gaussians
from da3_core.postprocessing import aligned_to_given_poses
from da3_core.prediction import Gaussians, Prediction

plyfile = pytest.importorskip("plyfile")

VIEWS, HEIGHT, WIDTH = 2, 33, 70  # a border of one row and two columns
PROPERTIES = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"


@pytest.fixture
def numbered() -> Prediction:
    """Gaussians whose mean is (view, row, column); depth falls from left to right, in the second view ten times as
    large."""
    mean = np.stack(np.meshgrid(range(VIEWS), range(HEIGHT), range(WIDTH), indexing="ij"), axis=-1)
    count = VIEWS * HEIGHT * WIDTH
    gaussians = Gaussians(
        means=torch.tensor(mean.reshape(1, count, 3), dtype=torch.float32),
        scales=torch.tensor([0.5, 2.0, -1.0]).repeat(1, count, 1),
        rotations=torch.tensor([0.5, -0.5, 0.1, 0.7]).repeat(1, count, 1),
        harmonics=torch.arange(27.0).reshape(1, 1, 3, 9).repeat(1, count, 1, 1),
        opacities=torch.tensor([0.0, 0.25]).repeat(1, count // 2),
    )
    depth = np.broadcast_to(np.arange(WIDTH, 0, -1, dtype=np.float32), (VIEWS, HEIGHT, WIDTH)).copy()
    depth[1] *= 10
    return Prediction(depth, gaussians=gaussians)


def vertices(prediction: Prediction, folder: Path, **options: Any) -> np.ndarray:
    (path,) = export(prediction, folder, "gs_ply", export_kwargs={"gs_ply": options})["gs_ply"]
    assert path == folder / "gs_ply/0000.ply"
    file = plyfile.PlyData.read(path)
    assert (file.byte_order, [e.name for e in file.elements], file.comments) == ("<", ["vertex"], [])
    data = file["vertex"].data
    assert " ".join(data.dtype.names) == PROPERTIES
    return data.view("<f4").reshape(len(data), 17)


def test_values_and_order(numbered: Prediction, tmp_path: Path) -> None:
    table = vertices(numbered, tmp_path)
    # Without the border, and without the farthest tenth of each view: 7 of 70 columns at the left.
    expected = np.stack(np.meshgrid([0, 1], range(1, 32), range(7, 68), indexing="ij"), axis=-1).reshape(-1, 3)
    np.testing.assert_array_equal(table[:, :3], expected)
    np.testing.assert_array_equal(table[:, 3:6], 0)
    np.testing.assert_array_equal(table[:, 6:9], np.broadcast_to([0, 9, 18], (len(table), 3)))
    logits = {round(v, 3) for v in table[:, 9].tolist()}
    assert logits == {round(float(np.log(1e-6 / (1 - 1e-6))), 3), round(float(np.log(1 / 3)), 3)}
    np.testing.assert_allclose(table[0, 10:13], np.log([0.5, 2, 1e-12]), rtol=1e-6)
    np.testing.assert_allclose(table[0, 13:17], [0.5, -0.5, 0.1, 0.7], rtol=1e-6)


def test_interval_takes_every_such_view(numbered: Prediction, tmp_path: Path) -> None:
    assert set(vertices(numbered, tmp_path, gs_views_interval=2)[:, 0]) == {0}
    assert set(vertices(numbered, tmp_path, gs_views_interval=None)[:, 0]) == {0, 1}


def test_images_too_small_for_a_border_keep_their_pixels(prediction: Prediction, tmp_path: Path) -> None:
    narrow = dataclasses.replace(prediction, scale_factor=None, depth=np.ones_like(prediction.depth))
    assert len(vertices(narrow, tmp_path)) == 3 * 28 * 40  # 28 rows have none, 42 columns one at each side


def test_world_is_that_of_depth_and_poses(numbered: Prediction, tmp_path: Path) -> None:
    quarter_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    to_world = Similarity(6.0, quarter_turn, np.array([5.0, 6, 7]))
    moved = dataclasses.replace(numbered, scale_factor=3.0, aux={"world_from_gaussians": to_world})
    network, metric = vertices(numbered, tmp_path), vertices(moved, tmp_path)
    np.testing.assert_allclose(metric[:, :3], 6 * network[:, :3] @ quarter_turn.T + (5, 6, 7), rtol=1e-6)
    np.testing.assert_allclose(metric[:, 10:12], network[:, 10:12] + np.log(6), rtol=1e-5)
    half = np.sqrt(0.5)  # quarter turn about z: (half, 0, 0, half) times (0.5, -0.5, 0.1, 0.7)
    np.testing.assert_allclose(metric[0, 13:], [-0.2 * half, -0.6 * half, -0.4 * half, 1.2 * half], atol=1e-6)
    np.testing.assert_array_equal(vertices(moved, tmp_path, network_units=True), network)
    nested = vertices(dataclasses.replace(numbered, scale_factor=3.0, is_metric=1), tmp_path)
    np.testing.assert_allclose(nested[:, :3], 3 * network[:, :3])


@pytest.mark.parametrize("to_input_scale", [True, False])
def test_gaussians_of_known_cameras_follow_them_into_the_world(to_input_scale: bool) -> None:
    torch.manual_seed(0)
    shape = (1, 4, 3, 5)
    raw, opacity, depth = torch.randn(*shape, 37), torch.rand(shape), torch.rand(shape) + 1
    rotations = Rotation.random(4, random_state=0).as_matrix()
    centres = np.random.default_rng(0).normal(size=(4, 3))
    camera_to_estimated = np.tile(np.eye(4), (4, 1, 1))
    camera_to_estimated[:, :3, :3], camera_to_estimated[:, :3, 3] = rotations, centres
    metres = 7.0
    world_from_metric = Similarity(0.3, Rotation.random(random_state=1).as_matrix(), np.array([1.0, 2, 3]))
    given = invert_rigid((world_from_metric @ scaling(metres)).transform_camera(camera_to_estimated))

    cameras = (
        torch.tensor(m, dtype=torch.float32)[None]
        for m in (
            invert_rigid(camera_to_estimated)[:, :3],
            np.tile(np.array([[9.0, 0, 2.5], [0, 9, 1.5], [0, 0, 1]]), (4, 1, 1)),
        )
    )
    extrinsics, intrinsics = cameras
    shown = torch.tensor(normalise_trajectory(given), dtype=torch.float32)[None]
    unposed = place_gaussians(raw, opacity, depth, extrinsics, intrinsics)
    posed = place_gaussians(raw, opacity, depth, extrinsics, intrinsics, shown)
    assert not torch.allclose(posed["means"], unposed["means"], rtol=0.1)

    metric = invert_rigid(scaling(metres).transform_camera(camera_to_estimated)).astype(np.float32)
    prediction = aligned_to_given_poses(
        Prediction(depth[0].numpy(), extrinsics=metric, scale_factor=metres, gaussians=Gaussians(**posed)),
        given,
        to_input_scale=to_input_scale,
    )
    expected = scaling(metres).apply(unposed["means"][0].numpy())
    expected = world_from_metric.apply(expected) if to_input_scale else expected
    np.testing.assert_allclose(gaussian_arrays(prediction).means, expected, atol=2e-4)


def scaling(scale: float) -> Similarity:
    return Similarity(scale, np.eye(3), np.zeros(3))


def test_upright_turns_y_and_z_over(numbered: Prediction, tmp_path: Path) -> None:
    plain, upright = vertices(numbered, tmp_path), vertices(numbered, tmp_path, upright=True)
    np.testing.assert_allclose(upright[:, :3], plain[:, :3] * (1, -1, -1))
    np.testing.assert_allclose(upright[0, 13:], [0.5, 0.5, -0.7, 0.1], atol=1e-6)  # (0, 1, 0, 0) times the rotation


def test_broken_gaussians_are_left_out(numbered: Prediction, tmp_path: Path) -> None:
    assert numbered.gaussians is not None
    harmonics = numbered.gaussians.harmonics.clone()
    harmonics[0, WIDTH + 20, 1, 3] = torch.nan
    whole = len(vertices(numbered, tmp_path))
    broken = dataclasses.replace(numbered, gaussians=dataclasses.replace(numbered.gaussians, harmonics=harmonics))
    assert len(vertices(broken, tmp_path)) == whole - 1


@pytest.mark.parametrize(("model", "infer_gs"), [("da3-giant", False), ("da3-large", True), ("da3mono-large", True)])
def test_gaussians_must_be_asked_for_from_a_model_that_has_them(model: str, infer_gs: bool) -> None:
    with pytest.raises(InputError, match=f"{model} cannot be exported as 'gs_ply'.*giant or a nested.*infer_gs=True"):
        check_request("gs_ply", PRESETS[model], views=2, infer_gs=infer_gs)
    assert check_request("gs_ply", PRESETS["da3nested-giant-large"], views=2, infer_gs=True) == ("gs_ply",)
