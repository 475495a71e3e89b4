# SPDX-License-Identifier: Apache-2.0
"""The torch rasteriser against Gaussians blended one by one in float64, and against gsplat on CUDA."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from da3_core.prediction import Gaussians
from da3_core.render import render
from da3_core.render.harmonics import basis
from da3_core.render.torch_rasterizer import rasterize

HEIGHT, WIDTH = 21, 35
INTRINSICS = np.array([[40, 0, 16.3], [0, 44, 11.9], [0, 0, 1]])
CAMERA = np.eye(4)
CAMERA[:3, :3] = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
CAMERA[:3, 3] = (0.1, -0.2, 0.3)


def scene(count: int, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Gaussians of all shapes in front of `CAMERA`, some of them beside the image or behind the camera."""
    random = np.random.default_rng(count)
    in_camera = random.uniform((-1.2, -0.8, 1), (1.2, 0.8, 4), (count, 3))
    in_camera[:, :2] *= in_camera[:, 2:] / 2
    in_camera[5::10, 2] *= -1
    arrays = {
        "means": (in_camera - CAMERA[:3, 3]) @ CAMERA[:3, :3],
        "rotations": random.normal(size=(count, 4)),
        "scales": np.exp(random.uniform(np.log(0.003), np.log(0.15), (count, 3))),
        "opacities": np.where(random.random(count) < 0.1, 0.003, random.random(count)),
        "harmonics": random.normal(size=(count, 9, 3)) * 0.4,
    }
    return {name: torch.tensor(array, dtype=torch.float32, device=device) for name, array in arrays.items()}


def cameras(device: str = "cpu") -> dict[str, Any]:
    matrices = {"world_to_camera": np.stack([CAMERA, np.eye(4)]), "intrinsics": np.stack([INTRINSICS] * 2)}
    tensors = {name: torch.tensor(array, dtype=torch.float32, device=device) for name, array in matrices.items()}
    return {**tensors, "height": HEIGHT, "width": WIDTH}


def one_by_one(gaussians: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Blends `CAMERA`'s image Gaussian after Gaussian; the projection's linear part comes from finite differences."""
    arrays = {name: tensor.double().numpy() for name, tensor in gaussians.items()}
    points = arrays["means"] @ CAMERA[:3, :3].T + CAMERA[:3, 3]
    centre = -CAMERA[:3, :3].T @ CAMERA[:3, 3]
    pixels = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), axis=-1)
    image, light = np.zeros((HEIGHT, WIDTH, 4)), np.ones((HEIGHT, WIDTH))

    def project(point: np.ndarray) -> np.ndarray:
        u, v, w = INTRINSICS @ point
        return np.array([u / w, v / w])

    for i in np.argsort(points[:, 2]):
        if points[i, 2] <= 0.01:
            continue
        # The linear part is taken at the direction nearest to the image, 15 % of its size outside at most.
        low = (np.array([-0.15 * WIDTH, -0.15 * HEIGHT]) - INTRINSICS[:2, 2]) / INTRINSICS[[0, 1], [0, 1]]
        high = (np.array([1.15 * WIDTH, 1.15 * HEIGHT]) - INTRINSICS[:2, 2]) / INTRINSICS[[0, 1], [0, 1]]
        at = points[i] / points[i, 2]
        at = np.array([*np.clip(at[:2], low, high), 1]) * points[i, 2]
        step = 1e-6
        linear = np.stack([(project(at + d) - project(at - d)) / (2 * step) for d in step * np.eye(3)], axis=1)
        w, *xyz = arrays["rotations"][i]
        axes = CAMERA[:3, :3] @ Rotation.from_quat([*xyz, w]).as_matrix() * arrays["scales"][i]
        covariance = linear @ axes @ axes.T @ linear.T + 0.3 * np.eye(2)
        offset = pixels - project(points[i])
        distance = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset)
        alpha = np.minimum(arrays["opacities"][i] * np.exp(-distance / 2), 0.999)
        alpha[alpha < 1 / 255] = 0
        seen_along = torch.tensor(arrays["means"][i] - centre)[None]
        color = np.maximum(basis(seen_along, 9).numpy()[0] @ arrays["harmonics"][i] + 0.5, 0)
        image += (light * alpha)[..., None] * np.array([*color, points[i, 2]])
        light *= 1 - alpha
    return image, 1 - light


@pytest.mark.parametrize("count", [3, 40, 900])
def test_picture_is_that_of_gaussians_blended_one_by_one(count: int) -> None:
    image, alpha = one_by_one(scene(count))
    assert alpha.max() > 0.2
    images, alphas = rasterize(**scene(count), **cameras())
    assert images.shape == (2, HEIGHT, WIDTH, 4)
    np.testing.assert_allclose(alphas[0], alpha, atol=2e-3 if count == 900 else 2e-4)
    np.testing.assert_allclose(images[0], image, atol=5e-3 if count == 900 else 5e-4)


def test_nothing_in_sight_is_black() -> None:
    behind = scene(3)
    behind["means"][:] = torch.tensor([0.0, 0.0, -5.0])
    images, alphas = rasterize(**behind, **cameras())
    assert images[1].abs().max() == alphas[1].max() == 0


def test_harmonics_are_the_real_ones_with_the_phase_of_condon_and_shortley() -> None:
    directions = np.random.default_rng(0).normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    polar, azimuth = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    columns = []
    for degree in range(3):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            columns.append(value.real if order == 0 else np.sqrt(2) * (value.real if order > 0 else value.imag))
    np.testing.assert_allclose(basis(torch.tensor(3 * directions), 9), np.stack(columns, axis=1), atol=1e-12)


def test_render_gives_colour_depth_and_alpha_of_a_wall() -> None:
    count = 40 * 60
    v, u = np.divmod(np.arange(count), 60)
    means = np.stack([(u - 29.5) / 20, (v - 19.5) / 20, np.full(count, 2.0)], axis=-1)
    harmonics = np.zeros((count, 3, 9))
    harmonics[:, :, 0] = (np.array([0.9, 0.4, 0.1]) - 0.5) / 0.28209479
    fields = (means, np.full((count, 3), 0.05), np.tile([1.0, 0, 0, 0], (count, 1)), harmonics, np.full(count, 0.9))
    wall = Gaussians(*(torch.tensor(field[None], dtype=torch.float32) for field in fields))
    views = list(render(wall, np.stack([np.eye(4)] * 3), np.stack([INTRINSICS] * 3), (HEIGHT, WIDTH), views_at_once=2))
    assert len(views) == 3
    for view in views:
        np.testing.assert_allclose(view.color, np.broadcast_to([0.9, 0.4, 0.1], view.color.shape), atol=2e-3)
        np.testing.assert_allclose(view.expected_depth(), 2, atol=1e-5)
        assert view.alpha.min() > 0.99


@pytest.mark.gpu
def test_gsplat_is_the_twin() -> None:
    pytest.importorskip("gsplat")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from da3_core.render import gsplat_rasterizer

    theirs = gsplat_rasterizer.rasterize(**scene(900, "cuda"), **cameras("cuda"))
    ours = rasterize(**scene(900, "cuda"), **cameras("cuda"))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=5e-3, rtol=0)
