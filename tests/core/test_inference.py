# SPDX-License-Identifier: Apache-2.0
"""`DepthAnything3.inference` on real networks with fixed random weights: what goes in, comes out, is refused."""

import inspect
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from da3_core import DepthAnything3, InputError, Prediction
from da3_core.export import NAMED_OPTIONS, options_of
from da3_core.geometry.cameras import invert_rigid, normalise_trajectory
from da3_core.geometry.similarity import Similarity
from da3_core.options import Precision
from da3_core.postprocessing import (
    aligned_to_given_poses,
    in_metres,
    with_far_as_sky,
    with_known_intrinsics,
    with_square_pixels,
)
from da3_core.preprocessing import preprocess

HEIGHT, WIDTH = 70, 98
SMALL = {"process_res": WIDTH}
K = np.array([[80.0, 0, 50], [0, 82, 33], [0, 0, 1]])


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("untrained:da3-small", precision="float32", engine="torch")


def with_precision(model: DepthAnything3, precision: Precision) -> DepthAnything3:
    """The same network in another precision."""
    with torch.device("meta"):
        other = DepthAnything3(model.preset.name, precision=precision)
    other.model = model.model
    return other


def images(count: int) -> list[np.ndarray]:
    """Smooth random images that need no resizing."""
    random = np.random.default_rng(0)
    cells = random.integers(0, 256, (count, HEIGHT // 14, WIDTH // 14, 3), np.uint8)
    return list(
        cells.repeat(14, axis=1).repeat(14, axis=2) // 2 + random.integers(0, 128, (count, HEIGHT, WIDTH, 3), np.uint8)
    )


def cameras(centres: Any, seed: int = 0) -> np.ndarray:
    """`(N, 4, 4)` float64 world-to-camera that look about along z from the given centres."""
    centres = np.asarray(centres, np.float64)
    camera_to_world = np.tile(np.eye(4), (len(centres), 1, 1))
    angles = np.random.default_rng(seed).normal(0, 0.1, (len(centres), 3))
    camera_to_world[:, :3, :3] = Rotation.from_rotvec(angles).as_matrix()
    camera_to_world[:, :3, 3] = centres
    return invert_rigid(camera_to_world)


TRIANGLE = [[0, 0, 0], [1, 0, 0], [0, 1, 0.5]]
LINE = [[0, 0, 0], [0, 0, 1], [0, 0, 3]]
CIRCLE = [[np.cos(a), np.sin(a), 0.1 * a] for a in np.linspace(0, 5, 12)]


# What comes out


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fields_have_their_decided_types(model: DepthAnything3, count: int) -> None:
    prediction = model.inference(images(count), **SMALL)
    for name, dtype, shape in [
        ("depth", np.float32, (HEIGHT, WIDTH)),
        ("conf", np.float32, (HEIGHT, WIDTH)),
        ("extrinsics", np.float32, (4, 4)),
        ("intrinsics", np.float32, (3, 3)),
        ("processed_images", np.uint8, (HEIGHT, WIDTH, 3)),
        ("original_sizes", np.int64, (2,)),
        ("processed_from_original", np.float64, (3, 3)),
    ]:
        value = getattr(prediction, name)
        assert (value.dtype, value.shape) == (dtype, (count, *shape)), name
    assert (prediction.depth > 0).all()
    assert (prediction.conf >= 1).all()
    assert (prediction.extrinsics[:, 3] == (0, 0, 0, 1)).all()
    assert (prediction.intrinsics[:, :2, 2] == (WIDTH / 2, HEIGHT / 2)).all()
    assert type(prediction.is_metric) is int
    assert (prediction.is_metric, prediction.sky, prediction.gaussians, prediction.scale_factor) == (
        0,
        None,
        None,
        None,
    )
    assert prediction.aux == {}


def test_two_calls_agree_to_the_last_bit_and_leave_the_images_alone(model: DepthAnything3) -> None:
    given = images(3)
    before = [image.copy() for image in given]
    first, second = model.inference(given, **SMALL), model.inference(tuple(given), **SMALL)
    for name in ("depth", "conf", "extrinsics", "intrinsics"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(first.processed_images, before)
    np.testing.assert_array_equal(given, before)


def test_inference_is_the_network_on_preprocessed_images(model: DepthAnything3) -> None:
    given = [image.repeat(3, axis=0).repeat(3, axis=1) for image in images(2)]
    prediction = model.inference(given, **SMALL)
    with torch.inference_mode():
        output = model(preprocess(given, WIDTH).tensor)
    np.testing.assert_array_equal(prediction.depth, output["depth"][0])
    np.testing.assert_array_equal(prediction.conf, output["depth_conf"][0])
    np.testing.assert_array_equal(prediction.extrinsics[:, :3], output["extrinsics"][0])
    expected = np.diag([3, 3, 1]) @ prediction.intrinsics
    np.testing.assert_allclose(prediction.original_intrinsics(), expected, rtol=1e-6)


@pytest.mark.parametrize("pose_method", ["decoder", "rays"])
@pytest.mark.parametrize("size", [(240, 320), (320, 180), (200, 200)])
def test_estimated_cameras_have_square_pixels_in_the_image_as_given(
    model: DepthAnything3, size: tuple[int, int], pose_method: str
) -> None:
    height, width = size
    given = [np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)]
    prediction = model.inference(given, process_res=84, pose_method=pose_method)
    fx, fy = prediction.original_intrinsics()[0, [0, 1], [0, 1]]
    np.testing.assert_allclose(fx, fy, rtol=1e-6)
    resized = prediction.depth.shape[2] / width, prediction.depth.shape[1] / height
    np.testing.assert_allclose(prediction.intrinsics[0, [0, 1], [0, 1]], np.multiply(fx, resized), rtol=1e-5)
    assert prediction.intrinsics_source == ("estimated",)


def test_what_is_out_of_all_proportion_is_sky_without_a_sky_head() -> None:
    depth = np.full((2, 10, 10), 2, np.float32)
    depth[:, 5:] = 20
    scene = Prediction(depth=depth)
    assert with_far_as_sky(scene) is scene
    depth[1, :3] = [[99], [101], [130_000]]
    np.testing.assert_array_equal(with_far_as_sky(scene).sky, depth > 100)
    np.testing.assert_array_equal(with_far_as_sky(scene).depth, depth)
    assert not with_far_as_sky(Prediction(depth=depth, sky=np.zeros(depth.shape, bool))).sky.any(), (
        "its own word counts"
    )


def test_one_focal_length_is_the_mean_of_both() -> None:
    estimated = np.array([[[50, 0, 7], [0, 160, 9], [0, 0, 1]]], np.float32)
    resize = np.array([np.diag([0.5, 0.4, 1])])  # 100 and 400 pixels of the image as given
    np.testing.assert_allclose(
        with_square_pixels(estimated, resize)[0], [[100, 0, 7], [0, 80, 9], [0, 0, 1]], rtol=1e-6
    )


def test_features_carry_the_number_of_their_layer_and_the_order_of_the_images(model: DepthAnything3) -> None:
    given = images(4)
    prediction = model.inference(given, **SMALL, export_feat_layers=[9, 1])
    assert set(prediction.aux) == {"feat_layer_1", "feat_layer_9"}
    assert prediction.aux["feat_layer_9"].shape == (4, HEIGHT // 14, WIDTH // 14, 384)
    assert prediction.aux["feat_layer_9"].dtype == np.float32
    again = model.inference(given, **SMALL, export_feat_layers=[1, 9, 9])
    np.testing.assert_array_equal(prediction.aux["feat_layer_9"], again.aux["feat_layer_9"])
    for view in range(4):  # block 1 sees every view by itself
        alone = model.inference([given[view]], **SMALL, export_feat_layers=[1]).aux["feat_layer_1"][0]
        np.testing.assert_allclose(prediction.aux["feat_layer_1"][view], alone, atol=1e-4)


def test_bfloat16_stays_close(model: DepthAnything3) -> None:
    exact = model.inference(images(2), **SMALL)
    rough = with_precision(model, "bfloat16").inference(images(2), **SMALL)
    error = np.abs(rough.depth / exact.depth - 1)
    assert 0 < np.median(error) < 0.05
    assert rough.depth.dtype == np.float32


# Known cameras


@pytest.mark.parametrize("centres", [TRIANGLE[:1], TRIANGLE[:2], TRIANGLE, LINE, CIRCLE], ids=len)
def test_known_poses_become_the_result(model: DepthAnything3, centres: list) -> None:
    extrinsics = cameras(centres)
    given = images(len(centres))
    intrinsics = np.tile(K, (len(centres), 1, 1))
    result = model.inference(given, extrinsics[:, :3], intrinsics, **SMALL)
    np.testing.assert_array_equal(result.extrinsics, extrinsics.astype(np.float32))
    np.testing.assert_array_equal(result.intrinsics, intrinsics.astype(np.float32))

    with torch.inference_mode():
        known = [torch.from_numpy(x).float()[None] for x in (normalise_trajectory(extrinsics), intrinsics)]
        output = model(preprocess(given, WIDTH).tensor, *known)
    alignment = result.aux["pose_alignment"]
    np.testing.assert_allclose(result.depth * alignment.scale, output["depth"][0], rtol=1e-5)
    np.testing.assert_array_equal(result.conf, output["depth_conf"][0])
    np.testing.assert_array_equal(result.aux["estimated_extrinsics"][:, :3], output["extrinsics"][0])
    estimated = result.aux["estimated_intrinsics"][:, [0, 1], [0, 1]]
    np.testing.assert_allclose(estimated[:, 0], estimated[:, 1], rtol=1e-6)
    np.testing.assert_allclose(estimated.prod(1), output["intrinsics"][0, :, [0, 1], [0, 1]].prod(1), rtol=1e-5)

    moved = model.inference(given, extrinsics, intrinsics, align_to_input_ext_scale=False, **SMALL)
    np.testing.assert_array_equal(moved.depth, output["depth"][0])
    in_network = alignment.target_from_source.transform_camera(invert_rigid(extrinsics))
    np.testing.assert_allclose(invert_rigid(moved.extrinsics), in_network, atol=1e-4)
    assert moved.extrinsics.dtype == np.float32


def test_conditioning_reaches_the_network(model: DepthAnything3) -> None:
    given, intrinsics = images(3), np.tile(K, (3, 1, 1))
    one = model.inference(given, cameras(TRIANGLE), intrinsics, **SMALL)
    other = model.inference(given, cameras(LINE), intrinsics, **SMALL)
    free = model.inference(given, **SMALL)
    assert np.abs(one.conf - other.conf).max() > 1e-3
    assert np.abs(one.conf - free.conf).max() > 1e-3


@pytest.mark.parametrize("centres", [TRIANGLE, LINE, CIRCLE], ids=len)
def test_depth_takes_the_unit_of_the_poses(model: DepthAnything3, centres: list) -> None:
    extrinsics, intrinsics = cameras(centres), np.tile(K, (len(centres), 1, 1))
    in_millimetres = extrinsics.copy()
    in_millimetres[:, :3, 3] *= 1000
    metres = model.inference(images(len(centres)), extrinsics, intrinsics, **SMALL)
    millimetres = model.inference(images(len(centres)), in_millimetres, intrinsics, **SMALL)
    np.testing.assert_allclose(millimetres.depth, 1000 * metres.depth, rtol=1e-3)


def seen_through(similarity: Similarity, extrinsics: np.ndarray, depth: np.ndarray) -> Prediction:
    """A perfect prediction of a scene in a world and a unit of its own."""
    predicted = invert_rigid(similarity.transform_camera(invert_rigid(extrinsics))).astype(np.float32)
    return Prediction(
        depth * np.float32(similarity.scale),
        is_metric=1,
        extrinsics=predicted,
        intrinsics=np.tile(K, (len(depth), 1, 1)),
    )


@pytest.mark.parametrize(
    ("centres", "scale", "method"),
    [
        (TRIANGLE[:1], 1.0, "rotation_only"),
        (TRIANGLE[:2], 0.37, "scale_only"),
        (TRIANGLE, 0.37, "similarity"),
        (LINE, 0.37, "scale_only"),
        (CIRCLE, 0.37, "robust"),
    ],
    ids=lambda x: len(x) if isinstance(x, list) else None,
)
def test_a_perfect_prediction_is_brought_back_exactly(
    centres: list, scale: float, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    extrinsics = cameras(centres)
    depth = np.random.default_rng(0).uniform(1, 5, (len(centres), 4, 6)).astype(np.float32)
    similarity = Similarity(scale, Rotation.from_rotvec([0.5, -1, 2]).as_matrix(), np.array([3.0, -2, 1]))
    prediction = seen_through(similarity, extrinsics, depth)
    if method == "robust":  # three in ten predicted cameras are lost
        prediction.extrinsics[[1, 5, 8], :3, 3] += [7, -3, 5]

    result = aligned_to_given_poses(prediction, extrinsics, to_input_scale=True)
    np.testing.assert_allclose(result.depth, depth, rtol=1e-5)
    alignment = result.aux["pose_alignment"]
    assert (alignment.method, alignment.scale) == (method, pytest.approx(scale, rel=1e-5))
    assert alignment.residual < 1e-5
    assert ("no baseline" in caplog.text) == (method == "rotation_only")
    assert result.is_metric == (method == "rotation_only"), "the unit of the poses is the caller's"

    moved = aligned_to_given_poses(prediction, extrinsics, to_input_scale=False)
    expected = seen_through(similarity, extrinsics, depth)
    np.testing.assert_allclose(moved.extrinsics, expected.extrinsics, atol=1e-5)
    np.testing.assert_array_equal(moved.depth, prediction.depth)
    assert moved.is_metric == 1


def test_known_intrinsics_alone_are_reported_and_change_nothing_else(model: DepthAnything3) -> None:
    given = [image.repeat(2, axis=0).repeat(2, axis=1) for image in images(2)]
    intrinsics = np.tile(np.diag([2, 2, 1]) @ K, (2, 1, 1))
    before = intrinsics.copy()
    free = model.inference(given, **SMALL)
    result = model.inference(given, intrinsics=intrinsics, **SMALL)
    np.testing.assert_allclose(result.intrinsics, np.tile(K, (2, 1, 1)), rtol=1e-6)
    np.testing.assert_array_equal(result.aux["estimated_intrinsics"], free.intrinsics)
    np.testing.assert_array_equal(result.depth, free.depth)
    np.testing.assert_array_equal(intrinsics, before)


def test_metric_depth_by_hand() -> None:
    """fx 150, fy 450: mean 300, factor 1. fx 500, fy 700: mean 600, factor 2."""
    raw = Prediction(np.full((2, 2, 2), 3, np.float32))
    assert in_metres(raw) is raw, "without intrinsics the depth stays raw and is not called metric"
    result = in_metres(with_known_intrinsics(raw, np.stack([np.diag([150.0, 450, 1]), np.diag([500.0, 700, 1])])))
    np.testing.assert_allclose(result.depth[:, 0, 0], [3, 6])
    assert (result.is_metric, result.depth.dtype) == (1, np.float32)
    np.testing.assert_array_equal(result.aux["raw_depth"], raw.depth)


# Files


def test_files_are_written_and_no_argument_is_changed(model: DepthAnything3, tmp_path: Path) -> None:
    options = {"glb": {"num_max_points": 50}}
    prediction = model.inference(
        images(2), **SMALL, export_dir=tmp_path / "out", export_format="mini_npz-glb", export_kwargs=options
    )
    assert options == {"glb": {"num_max_points": 50}}
    stored = np.load(tmp_path / "out/exports/mini_npz/results.npz")
    np.testing.assert_allclose(stored["depth"], prediction.depth, rtol=1e-6)
    import trimesh

    cloud = next(g for g in trimesh.load(tmp_path / "out/scene.glb").geometry.values() if hasattr(g, "colors"))
    assert len(cloud.vertices) == 50, "options of a format go before the named arguments"


def test_defaults_are_those_of_the_guide_and_of_the_formats() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(DepthAnything3.inference).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert defaults == {
        "extrinsics": None,
        "intrinsics": None,
        "align_to_input_ext_scale": True,
        "infer_gs": False,
        "use_ray_pose": False,
        "ref_view_strategy": "saddle_balanced",
        "render_exts": None,
        "render_ixts": None,
        "render_hw": None,
        "process_res": None,
        "process_res_method": "upper_bound_resize",
        "export_dir": None,
        "export_format": "mini_npz",
        "export_feat_layers": None,
        "conf_thresh_percentile": 40.0,
        "num_max_points": 1_000_000,
        "show_cameras": True,
        "feat_vis_fps": 15,
        "export_kwargs": None,
        "pose_method": "auto",
        "apply_exif": False,
        "depth_size": "processed",
        "refine_depth": "auto",
        "refine_scale": False,
    }
    for argument, places in NAMED_OPTIONS.items():
        for format_name, option in places:
            assert getattr(options_of(format_name)(), option) == defaults[argument], (
                argument,
                format_name,
            )


# What is refused, and when


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"export_format": "mini_npz-obj"}, "'obj'"),
        ({"export_format": "glb", "export_kwargs": {"glb": {"colour": 1}}}, "'colour'"),
        ({"export_format": "glb", "num_max_points": -1}, "num_max_points"),
        ({"process_res": 5}, "process_res is 5"),
        ({"process_res_method": "stretch"}, "'stretch'.*upper_bound_resize"),
        ({"ref_view_strategy": "best"}, "'best'.*saddle_balanced"),
        ({"export_feat_layers": [5, 12]}, r"\[12\].*0 to 11"),
        ({"infer_gs": True}, "da3-small predicts no Gaussians"),
        ({"extrinsics": cameras(TRIANGLE)}, "without intrinsics"),
        ({"extrinsics": cameras(TRIANGLE[:2]), "intrinsics": [K] * 3}, r"\(2, 4, 4\) for 3 images"),
        ({"extrinsics": 2 * cameras(TRIANGLE), "intrinsics": [K] * 3}, "last row|rigid"),
        ({"intrinsics": [K] * 2}, r"\(2, 3, 3\) for 3 images"),
        ({}, r"image 0 \(absent.png\): no such file"),
    ],
)
def test_a_bad_request_is_refused_before_an_image_is_opened(
    model: DepthAnything3, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        model.inference(["absent.png"] * 3, **arguments)
    assert "\n" not in str(refusal.value)


def test_float16_is_refused_on_a_cpu_and_unknown_precisions_everywhere(model: DepthAnything3) -> None:
    half = with_precision(model, "float16")
    with pytest.raises(InputError, match=r"float16.*CPU"):
        half.inference(images(1), **SMALL)
    with pytest.raises(InputError, match=r"'int8'.*bfloat16"):
        DepthAnything3("da3-small", precision="int8")


@contextmanager
def address_space(extra_bytes: int) -> Iterator[None]:
    """This process may map so much more memory than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_too_little_memory_is_one_sentence_and_the_model_lives_on(model: DepthAnything3) -> None:
    with address_space(80 << 20), pytest.raises(InputError, match=r"on cpu for 2 views of 1008 x 756 .*process_res"):
        model.inference([np.zeros((756, 1008, 3), np.uint8)] * 2, process_res=1008)
    assert model.inference(images(1), **SMALL).depth.shape == (1, HEIGHT, WIDTH)


# Weights


def test_random_weights_are_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    fresh = DepthAnything3(model_name="da3-small", config={"net": {"name": "vits"}}, torch_dtype="float32")
    with caplog.at_level(logging.WARNING):
        fresh.inference(images(1), **SMALL)
        fresh.inference(images(1), **SMALL)
    assert caplog.text.count("random weights") == 1


def test_loaded_weights_are_not_announced(model: DepthAnything3, caplog: pytest.LogCaptureFixture) -> None:
    filled = DepthAnything3("da3-small", precision="float32")
    filled.load_state_dict(model.state_dict())
    with caplog.at_level(logging.WARNING):
        result = filled.inference(images(1), **SMALL)
    assert not caplog.records
    np.testing.assert_array_equal(result.depth, model.inference(images(1), **SMALL).depth)


def test_a_saved_model_is_the_same_model(
    model: DepthAnything3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.save_pretrained(tmp_path)
    loaded = DepthAnything3.from_pretrained(tmp_path, device="cpu", precision="float32", engine="torch")
    assert loaded.preset == model.preset
    with caplog.at_level(logging.WARNING):
        result = loaded.inference(images(2), **SMALL)
    assert not caplog.records
    np.testing.assert_allclose(result.depth, model.inference(images(2), **SMALL).depth, rtol=1e-5)


def test_the_model_is_a_torch_module_wherever_it_is_moved(model: DepthAnything3) -> None:
    assert model.eval() is model
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")
    assert "untrained" in (DepthAnything3.from_pretrained.__doc__ or "")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_may_move_between_calls() -> None:
    model = DepthAnything3.from_pretrained("untrained:da3-small", precision="float32")
    there = model.inference(images(3), **SMALL)
    here = model.to("cuda").inference(images(3), **SMALL)
    back = model.to("cpu").inference(images(3), **SMALL)
    np.testing.assert_allclose(here.depth, there.depth, rtol=0.02)
    np.testing.assert_array_equal(back.depth, there.depth)


def test_depth_that_is_no_number_is_an_error() -> None:
    model = DepthAnything3.from_pretrained("untrained:da3-small", precision="float32")
    with torch.no_grad():
        next(model.model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match=r"the model gives no number for 100% of the pixels: its weights are damaged"):
        model.inference(images(1), **SMALL)
