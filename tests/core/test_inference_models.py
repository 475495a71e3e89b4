# SPDX-License-Identifier: Apache-2.0
"""What `inference` makes of models other than plain any-view ones, on small networks of the same build."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from da3_core import DepthAnything3, InputError
from da3_core.geometry.cameras import camera_centres, invert_rigid
from da3_core.geometry.feature_poses import default_intrinsics
from da3_core.model.presets import find_preset
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import AnyViewConfig, BackboneConfig, HeadConfig, MonocularConfig, NestedConfig
from da3_core.network.monocular import MonocularNetwork
from da3_core.network.nested import NestedNetwork
from da3_core.network.untrained import initialise_untrained
from da3_core.preprocessing import preprocess
from da3_core.synthetic import Walk

MODELS = Path(__file__).parents[2] / "docs" / "models.md"
HEIGHT, WIDTH = 70, 98
SMALL = {"process_res": WIDTH}
HEAD = HeadConfig((16, 16, 16, 16), features=16)
ANY_VIEW = AnyViewConfig(
    BackboneConfig(128, depth=12, feed_forward="mlp", hidden=256, out_layers=(5, 7, 9, 11), joint_from=4),
    HEAD,
    gaussians=True,
)
MONOCULAR = MonocularConfig(
    BackboneConfig(128, depth=12, feed_forward="mlp", hidden=256, out_layers=(2, 5, 8, 11), joint_from=None),
    HEAD,
)


def small(name: str) -> DepthAnything3:
    """A model that is `name` in all but the size of its network."""
    with torch.device("meta"):
        model = DepthAnything3(name, precision="float32")
    if model.preset.kind == "any-view":
        model.model = AnyViewNetwork(ANY_VIEW)
    elif model.preset.kind == "nested":
        model.model = NestedNetwork(NestedConfig(ANY_VIEW, MONOCULAR))
    else:
        model.model = MonocularNetwork(MONOCULAR)
    initialise_untrained(model)
    return model.eval()


@pytest.fixture(scope="module")
def giant() -> DepthAnything3:
    return small("da3-giant")


@pytest.fixture(scope="module")
def mono() -> DepthAnything3:
    return small("da3mono-large")


@pytest.fixture
def metric() -> DepthAnything3:
    return small("da3metric-large")


@pytest.fixture(scope="module")
def nested() -> DepthAnything3:
    return small("da3nested-giant-large-1.1")


def images(count: int, factor: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    cells = random.integers(0, 256, (count, HEIGHT // 14, WIDTH // 14, 3), np.uint8)
    return list(cells.repeat(14 * factor, axis=1).repeat(14 * factor, axis=2))


def raw_output(model: DepthAnything3, given: list[np.ndarray], **options: object) -> dict:
    with torch.inference_mode():
        return model(preprocess(given, WIDTH).tensor, **options)


def test_mono_gives_depth_and_sky_and_nothing_it_does_not_know(mono: DepthAnything3, tmp_path: Path) -> None:
    given = images(2)
    prediction = mono.inference(given, **SMALL, export_dir=tmp_path, export_feat_layers=[3])
    output = raw_output(mono, given)
    np.testing.assert_array_equal(prediction.depth, output["depth"][0])
    np.testing.assert_array_equal(prediction.sky, output["sky"][0] >= 0.5)
    assert prediction.sky.dtype == bool
    assert 0 < prediction.sky.mean() < 1, "both classes, or this shows nothing"
    assert prediction.conf is prediction.extrinsics is prediction.intrinsics is prediction.scale_factor is None
    assert prediction.is_metric == 0
    assert prediction.aux["feat_layer_3"].shape == (2, HEIGHT // 14, WIDTH // 14, 128)
    stored = np.load(tmp_path / "exports/mini_npz/results.npz")
    np.testing.assert_array_equal(stored["sky"], prediction.sky)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use_ray_pose": True}, "da3mono-large predicts no rays"),
        ({"infer_gs": True}, "da3mono-large predicts no Gaussians"),
        ({"export_format": "glb"}, "da3mono-large.*glb"),
    ],
)
def test_mono_refuses_what_needs_cameras(mono: DepthAnything3, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mono.inference(["absent.png"], **arguments)


def test_metric_depth_is_metres_only_with_known_intrinsics(
    metric: DepthAnything3, caplog: pytest.LogCaptureFixture
) -> None:
    given = images(2, factor=2)
    with caplog.at_level(logging.WARNING):
        raw = metric.inference(given, **SMALL)
        metric.inference(given, **SMALL)
    assert caplog.text.count("known intrinsics") == 1
    assert (raw.is_metric, raw.intrinsics) == (0, None)

    intrinsics = np.stack([np.diag([500.0, 700, 1]), np.diag([200.0, 400, 1])])  # of images twice the processed size
    result = metric.inference(given, intrinsics=intrinsics, **SMALL)
    np.testing.assert_allclose(result.depth, raw.depth * np.array([300 / 300, 150 / 300])[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(result.intrinsics[:, 0, 0], [250, 100])
    np.testing.assert_array_equal(result.aux["raw_depth"], raw.depth)
    assert result.is_metric == 1


def test_the_snippets_for_metres_scale_once(metric: DepthAnything3, nested: DepthAnything3) -> None:
    [ours] = re.findall(r"```python\n(if prediction.is_metric:.*?)```", MODELS.read_text(), re.DOTALL)
    given, intrinsics = images(2), np.tile(np.diag([250.0, 350, 1]), (2, 1, 1))
    intrinsics[1, :2] *= 2
    raw, metres = metric.inference(given, **SMALL), metric.inference(given, intrinsics=intrinsics, **SMALL)
    for prediction, focal in ((metres, None), (metres, 300), (raw, np.array([300, 600])[:, None, None])):
        said: dict[str, Any] = {"prediction": prediction, "focal": focal}
        exec(ours, said)
        np.testing.assert_allclose(said["depth_m"], metres.depth, rtol=1e-6)
    said = {"prediction": nested.inference(given, **SMALL), "focal": 300}
    exec(ours, said)
    assert said["depth_m"] is said["prediction"].depth
    for prediction in (metres, said["prediction"]):
        focal = (prediction.intrinsics[0, 0, 0] + prediction.intrinsics[0, 1, 1]) / 2  # verbatim, as the next line
        metric_depth = focal * prediction.depth / 300.0
        np.testing.assert_array_equal(metric_depth, prediction.depth)
        plain = np.asarray(prediction.depth)
        for array in (prediction.depth * focal, focal * prediction.depth / 300.5, 2 * prediction.depth / 300.0):
            assert not np.array_equal(array, plain)
        np.testing.assert_array_equal(focal * prediction.depth / 150, focal * plain / 150)
        assert type(prediction.depth + 1) is np.ndarray
    assert raw.intrinsics is None, "the guide's snippet asks for them, and scales by no guess"
    guides = (metres.intrinsics[:, 0, 0] + metres.intrinsics[:, 1, 1]) / 2  # on what the network said
    np.testing.assert_allclose(guides[:, None, None] * metres.aux["raw_depth"] / 300.0, metres.depth, rtol=1e-6)


def test_nested_reports_metres_and_sky(nested: DepthAnything3) -> None:
    given = images(3)
    prediction = nested.inference(given, **SMALL)
    output = raw_output(nested, given)
    assert type(prediction.is_metric) is int
    assert type(prediction.scale_factor) is float
    assert prediction.is_metric == 1
    np.testing.assert_array_equal(prediction.depth, output["depth"][0])
    np.testing.assert_array_equal(prediction.sky, output["sky"][0] >= 0.5)
    with torch.inference_mode():
        unscaled = nested.model.da3(preprocess(given, WIDTH).tensor)
    np.testing.assert_allclose(
        prediction.extrinsics[:, :3, 3], unscaled["extrinsics"][0, :, :, 3] * prediction.scale_factor, rtol=1e-5
    )


def test_nested_keeps_metres_when_one_view_has_a_known_pose(nested: DepthAnything3) -> None:
    intrinsics = np.array([[[80.0, 0, 49], [0, 80, 35], [0, 0, 1]]])
    one = nested.inference(images(1), np.eye(4)[None], intrinsics, **SMALL)
    assert (one.is_metric, one.aux["pose_alignment"].method) == (1, "rotation_only")
    np.testing.assert_array_equal(one.extrinsics[0], np.eye(4))
    two = np.tile(np.eye(4), (2, 1, 1))
    two[1, 0, 3] = -1
    pair = nested.inference(images(2), two, intrinsics.repeat(2, 0), **SMALL)
    assert (pair.is_metric, pair.aux["pose_alignment"].method) == (0, "scale_only")


def test_gaussians_only_on_request(giant: DepthAnything3) -> None:
    given = images(2)
    assert giant.inference(given, **SMALL).gaussians is None
    gaussians = giant.inference(given, **SMALL, infer_gs=True).gaussians
    count = 2 * HEIGHT * WIDTH
    shapes = {name: tuple(getattr(gaussians, name).shape) for name in vars(gaussians)}
    assert shapes == {
        "means": (1, count, 3),
        "scales": (1, count, 3),
        "rotations": (1, count, 4),
        "harmonics": (1, count, 3, 9),
        "opacities": (1, count),
    }
    torch.testing.assert_close(gaussians.means, raw_output(giant, given, infer_gs=True)["gaussians"]["means"])


@pytest.mark.parametrize("name", ["giant", "nested"])
def test_cameras_from_rays(name: str, request: pytest.FixtureRequest) -> None:
    model, given = request.getfixturevalue(name), images(2)
    decoded = model.inference(given, **SMALL)
    first, second = (model.inference(given, **SMALL, use_ray_pose=True) for _ in range(2))
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)
    np.testing.assert_array_equal(first.intrinsics, second.intrinsics)
    assert (decoded.intrinsics[:, 0, 2] == WIDTH / 2).all()
    assert (first.intrinsics[:, 0, 2] != WIDTH / 2).all(), "rays tell the principal point"
    rotation = first.extrinsics[:, :3, :3]
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (2, 1, 1)), atol=1e-4)


# Where cameras come from


def test_mono_gets_poses_from_features_where_it_can(mono: DepthAnything3, walk: Walk, tmp_path: Path) -> None:
    frames, camera = [4, 5], np.tile(walk.intrinsics, (2, 1, 1))
    pair = list(walk.images[frames])
    options = {"intrinsics": camera, "process_res": 322}
    posed = mono.inference(pair, **options, export_dir=tmp_path, export_format="tum")
    report = posed.aux["feature_poses"]
    assert report.failure is None
    np.testing.assert_allclose(posed.extrinsics, report.world_to_camera, atol=1e-6)
    alone = mono.inference(pair[:1], **{**options, "intrinsics": camera[:1]})
    assert alone.extrinsics is None
    assert "feature_poses" not in alone.aux
    np.testing.assert_allclose(np.median(posed.depth[0] / alone.depth[0]), report.depth_scales[0], rtol=1e-4)

    lost = mono.inference([pair[0], walk.images[16]], **options)
    assert lost.extrinsics is None
    assert lost.aux["feature_poses"].failure
    with pytest.raises(InputError, match="cannot be exported as 'tum'"):
        mono.inference([pair[0], walk.images[16]], **options, export_dir=tmp_path / "lost", export_format="tum")
    assert not (tmp_path / "lost").exists()


def test_given_poses_only_align_what_the_network_does_not_see(
    metric: DepthAnything3, walk: Walk, caplog: pytest.LogCaptureFixture
) -> None:
    frames, camera = [4, 5], np.tile(walk.intrinsics, (2, 1, 1))
    pair, given = list(walk.images[frames]), invert_rigid(walk.camera_to_world[frames])
    free = metric.inference(pair, intrinsics=camera, process_res=322)
    with caplog.at_level(logging.WARNING):
        aligned = metric.inference(pair, given, camera, process_res=322)
        moved = metric.inference(pair, given, camera, process_res=322, align_to_input_ext_scale=False)
        alone = metric.inference(pair[:1], given[:1], camera[:1], process_res=322)
    assert caplog.text.count("da3metric-large does not see the given poses") == 1

    np.testing.assert_allclose(aligned.extrinsics, given, atol=1e-6)
    baselines = [np.linalg.norm(np.diff(camera_centres(cameras), axis=0)) for cameras in (given, free.extrinsics)]
    np.testing.assert_allclose(aligned.depth, free.depth * np.float32(baselines[0] / baselines[1]), rtol=1e-4)
    assert (free.is_metric, aligned.is_metric) == (1, 0)
    np.testing.assert_array_equal(moved.depth, free.depth)
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(camera_centres(moved.extrinsics), axis=0)), baselines[1], rtol=1e-4
    )
    np.testing.assert_allclose(alone.extrinsics, given[:1], atol=1e-6)
    assert alone.aux["pose_alignment"].method == "rotation_only"
    assert alone.is_metric == 1


def test_features_use_given_intrinsics(mono: DepthAnything3, walk: Walk) -> None:
    pair, camera = list(walk.images[[4, 5]]), np.tile(walk.intrinsics, (2, 1, 1))
    given, assumed = (mono.inference(pair, intrinsics=known, process_res=322) for known in (camera, None))
    np.testing.assert_allclose(given.intrinsics, given.processed_from_original @ camera, rtol=1e-6)
    assert given.intrinsics_source == ("known", "known")
    assert assumed.intrinsics is assumed.original_intrinsics() is None, "nobody takes a guess for a calibration"
    assert assumed.intrinsics_source == ("assumed", "assumed")
    guess = np.linalg.inv(assumed.processed_from_original[0]) @ assumed.assumed_intrinsics[0]
    np.testing.assert_allclose(guess[0, 0], guess[1, 1], rtol=1e-6)
    np.testing.assert_allclose(guess, default_intrinsics(240, 320), rtol=0.01)
    turned = walk.camera_to_world[5, :3, :3].T @ walk.camera_to_world[4, :3, :3]
    errors = [np.linalg.norm(result.extrinsics[1, :3, :3] - turned) for result in (given, assumed)]
    assert errors[0] < errors[1]


def test_any_view_leaves_its_decoder_aside_on_request(giant: DepthAnything3) -> None:
    given, camera = images(2), np.tile([[80.0, 0, 49], [0, 80, 35], [0, 0, 1]], (2, 1, 1))
    assert giant.inference(given, **SMALL, pose_method="decoder").extrinsics is not None
    assert giant.inference(given, **SMALL, pose_method="features").extrinsics is None
    lost = giant.inference(given, np.tile(np.eye(4), (2, 1, 1)), camera, **SMALL, pose_method="features")
    assert lost.extrinsics is None
    assert not lost.placed.any()
    rays, the_same = (
        giant.inference(given, **SMALL, **way) for way in ({"use_ray_pose": True}, {"pose_method": "rays"})
    )
    np.testing.assert_array_equal(rays.extrinsics, the_same.extrinsics)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("giant", {"pose_method": "guess"}, "'guess'.*auto, decoder, rays, features"),
        ("giant", {"pose_method": "features", "use_ray_pose": True}, "use_ray_pose=True contradicts"),
        ("giant", {"pose_method": "decoder", "use_ray_pose": True}, "use_ray_pose=True contradicts"),
        ("giant", {"pose_method": "features", "infer_gs": True}, "Gaussians lie in the world"),
        ("mono", {"pose_method": "decoder"}, "da3mono-large has no camera decoder"),
        ("mono", {"pose_method": "rays"}, "da3mono-large predicts no rays"),
    ],
)
def test_pose_methods_that_cannot_be(name: str, arguments: dict, message: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(InputError, match=message):
        request.getfixturevalue(name).inference(["absent.png", "missing.png"], **arguments)


@pytest.mark.parametrize(
    ("preset", "method"), [("da3-base", "decoder"), ("da3metric-large", "features"), ("da3-embedded", "features")]
)
def test_the_best_pose_method_of_a_model(preset: str, method: str) -> None:
    assert find_preset(preset).pose_method == method
