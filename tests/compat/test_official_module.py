# SPDX-License-Identifier: Apache-2.0
"""Programs for the official package run by `compat/`: what its guide promises, and that two never share a name."""

import inspect
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

COMPAT = Path(__file__).parents[2] / "compat"
PROMISED = (
    *("image", "extrinsics", "intrinsics", "align_to_input_ext_scale", "infer_gs", "use_ray_pose"),
    "ref_view_strategy",
    *("render_exts", "render_ixts", "render_hw", "process_res", "process_res_method", "export_dir", "export_format"),
    *(
        "export_feat_layers",
        "conf_thresh_percentile",
        "num_max_points",
        "show_cameras",
        "feat_vis_fps",
        "export_kwargs",
    ),
)


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The module as a program finds it."""
    sys.path.insert(0, str(COMPAT))
    import depth_anything_3.api

    yield depth_anything_3.api
    sys.path.remove(str(COMPAT))
    for name in [name for name in sys.modules if name.startswith("depth_anything_3")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def model(api: Any) -> Any:
    return api.DepthAnything3.from_pretrained("untrained:da3-small").to(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / name)
    return sorted(map(str, folder.glob("*.png")))


def test_the_parameters_of_inference_are_those_of_the_guide_in_its_order(api: Any) -> None:
    parameters = list(inspect.signature(api.DepthAnything3.inference).parameters)[1:]
    assert tuple(parameters[: len(PROMISED)]) == PROMISED
    assert api.DepthAnything3(model_name="da3-small").preset.name == "da3-small"
    assert "depth-anything/" in api.DepthAnything3.from_pretrained.__doc__


def test_a_reconstruction_from_files_has_every_field_and_every_file(
    model: Any, photos: list[str], tmp_path: Path
) -> None:
    prediction = model.inference(
        image=photos,
        process_res=70,
        export_dir=str(tmp_path),
        export_format="mini_npz-glb-depth_vis",
        export_feat_layers=[0, 5],
        num_max_points=1000,
        export_kwargs={"glb": {"camera_size": 0.1}},
    )
    views, height, width = prediction.depth.shape
    assert (views, max(height, width)) == (2, 70)
    assert prediction.conf.shape == prediction.depth.shape
    assert (prediction.extrinsics.shape, prediction.intrinsics.shape) == ((2, 4, 4), (2, 3, 3))
    assert prediction.processed_images.shape == (2, height, width, 3)
    assert "feat_layer_5" in prediction.aux
    assert (prediction.is_metric, prediction.scale_factor, prediction.gaussians) == (0, None, None)
    with np.load(tmp_path / "exports/mini_npz/results.npz") as arrays:
        np.testing.assert_array_equal(arrays["exts"], prediction.extrinsics)
        np.testing.assert_array_equal(arrays["ixts"], arrays["intrinsics"])
    assert (tmp_path / "scene.glb").is_file()
    np.savetxt(tmp_path / "K.txt", prediction.intrinsics[0], fmt="%.6f")
    assert np.loadtxt(tmp_path / "K.txt").shape == (3, 3)


def test_images_are_paths_arrays_or_of_pillow(model: Any, photos: list[str]) -> None:
    opened = [Image.open(path) for path in photos]
    depths = [model.inference(given, process_res=42).depth for given in (photos, opened, list(map(np.array, opened)))]
    np.testing.assert_array_equal(depths[0], depths[1])
    np.testing.assert_array_equal(depths[0], depths[2])


def test_known_cameras_become_those_of_the_result(model: Any, photos: list[str]) -> None:
    extrinsics = np.tile(np.eye(4), (2, 1, 1))
    extrinsics[1, 0, 3] = -0.5
    intrinsics = np.tile(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), (2, 1, 1))
    prediction = model.inference(image=photos, extrinsics=extrinsics, intrinsics=intrinsics, process_res=42)
    np.testing.assert_allclose(prediction.extrinsics, extrinsics, atol=1e-5)


def environment_without_python_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AMENT_PREFIX_PATH")}


@pytest.mark.slow
def test_it_installs_alone_and_refuses_beside_the_official_package(tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty/bin/python"
    site = next((tmp_path / "empty/lib").glob("python*/site-packages"))
    ours = next(path for path in map(Path, sys.path) if (path / "setuptools").is_dir() and (path / "torch").is_dir())
    (site / "dependencies.pth").write_text(f"{ours}\n{COMPAT.parent}\n")
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    source = tmp_path / "compat"
    subprocess.run(["cp", "-r", COMPAT, source], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", *options, source]

    def run(*command: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=environment_without_python_path(), capture_output=True, text=True)

    official = site / "depth_anything_3-9.9.dist-info"
    official.mkdir()
    (official / "METADATA").write_text("Metadata-Version: 2.1\nName: depth-anything-3\nVersion: 9.9\n")
    refused = run(*pip)
    assert refused.returncode != 0
    assert "depth-anything-3 9.9 is installed here" in refused.stdout + refused.stderr
    official.rename(tmp_path / official.name)
    done = run(*pip)
    assert done.returncode == 0, done.stderr
    imported = (python, "-c", "import depth_anything_3.api as api; print(api.DepthAnything3.__module__)")
    assert run(*imported).stdout == "da3_core.api\n"
    (tmp_path / official.name).rename(official)
    assert "both bring the module depth_anything_3" in run(*imported).stderr
