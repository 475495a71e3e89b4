# SPDX-License-Identifier: Apache-2.0
"""Every engine gives what torch gives, for each kind of network, at sizes that a test can afford."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from da3_core.api import DepthAnything3
from da3_core.engines import choose_engine, is_installed, make_runtime
from da3_core.engines.compiled_steps import CompiledSteps, weights_digest
from da3_core.engines.steps import run_on
from da3_core.errors import InputError
from da3_core.network import build_network
from da3_core.network.config import (
    AnyViewConfig,
    BackboneConfig,
    HeadConfig,
    MonocularConfig,
    NestedConfig,
    NetworkConfig,
)
from da3_core.network.untrained import initialise_untrained
from da3_core.options import ModelOptions

VIEWS, HEIGHT, WIDTH = 3, 70, 98
_HEAD = HeadConfig((16, 16, 16, 16), features=16)
_JOINT = BackboneConfig(128, depth=8, feed_forward="mlp", hidden=256, out_layers=(1, 3, 5, 7), joint_from=2)
_ALONE = BackboneConfig(128, depth=4, feed_forward="mlp", hidden=256, out_layers=(0, 1, 2, 3), joint_from=None)
NETWORKS: dict[str, NetworkConfig] = {
    "any-view": AnyViewConfig(_JOINT, _HEAD),
    "wide feed-forward": AnyViewConfig(replace(_JOINT, feed_forward="swiglu"), _HEAD),
    "embedded": AnyViewConfig(replace(_JOINT, rotary=False), _HEAD, camera_encoder=False),
    "Gaussians": AnyViewConfig(_JOINT, _HEAD, gaussians=True),
    "monocular": MonocularConfig(_ALONE, _HEAD),
    "nested": NestedConfig(AnyViewConfig(_JOINT, _HEAD), MonocularConfig(_ALONE, _HEAD)),
}


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests of the same networks share, since conversions take seconds."""
    return tmp_path_factory.mktemp("steps")


@pytest.fixture
def images() -> Tensor:
    return torch.randn(1, VIEWS, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def pair(config: NetworkConfig, engine: str, folder: Path, precision: str = "float32") -> tuple[nn.Module, nn.Module]:
    """A network with fixed weights, twice: as it is, and on an engine."""
    plain, fast = build_network(config), build_network(config)
    initialise_untrained(plain)
    fast.load_state_dict(plain.state_dict())
    run_on(fast, CompiledSteps(make_runtime(engine, precision), weights_digest(fast), folder))
    return plain, fast


def largest_deviation(theirs: dict[str, object], ours: dict[str, object]) -> float:
    """Over all tensors of two outputs, relative to the largest value of each."""
    assert theirs.keys() == ours.keys()
    worst = 0.0
    for name, value in theirs.items():
        other = ours[name]
        if isinstance(value, dict):
            assert isinstance(other, dict)
            worst = max([worst, largest_deviation(value, other)]) if value else worst
        elif isinstance(value, Tensor):
            assert isinstance(other, Tensor)
            assert value.shape == other.shape
            worst = max(worst, float((value - other).abs().max() / value.abs().max()))
        else:
            assert value == pytest.approx(other, rel=1e-4)
    return worst


@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_an_engine_gives_what_torch_gives(kind: str, engine: str, images: Tensor, steps: Path) -> None:
    plain, fast = pair(NETWORKS[kind], engine, steps)
    options: dict[str, object] = {"export_feat_layers": [0, 3]}
    if kind == "Gaussians":
        options["infer_gs"] = True
    assert largest_deviation(plain(images, **options), fast(images, **options)) < 1e-4


@torch.inference_mode()
def test_rays_and_known_cameras(engine: str, images: Tensor, steps: Path) -> None:
    plain, fast = pair(NETWORKS["any-view"], engine, steps)
    assert largest_deviation(plain(images, export_rays=True), fast(images, export_rays=True)) < 1e-4
    poses = torch.eye(4).repeat(1, VIEWS, 1, 1)
    poses[0, :, 0, 3] = torch.arange(VIEWS)
    calibration = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(1, VIEWS, 1, 1)
    assert largest_deviation(plain(images, poses, calibration), fast(images, poses, calibration)) < 1e-4


@torch.inference_mode()
def test_one_step_serves_windows_of_any_length(
    engine: str, images: Tensor, steps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the blocks in which views meet depend on how many they are."""
    plain, fast = pair(NETWORKS["any-view"], engine, steps)
    fast(images)
    caplog.clear()
    caplog.set_level("INFO", logger="da3_core.engines")
    assert largest_deviation(plain(images[:, :2]), fast(images[:, :2])) < 1e-4
    converted = [record.message.split()[1] for record in caplog.records if record.message.startswith("converting")]
    assert converted == ["join"]


@torch.inference_mode()
def test_the_next_start_finds_what_was_converted(
    engine: str, images: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast = pair(NETWORKS["monocular"], engine, tmp_path)
    fast(images)
    caplog.set_level("INFO", logger="da3_core.engines")
    _, again = pair(NETWORKS["monocular"], engine, tmp_path)
    assert largest_deviation(plain(images), again(images)) < 1e-4
    assert not caplog.records

    # A damaged file and one that others may write are not used.
    damaged, writable = sorted(tmp_path.glob("*.step"))
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"damaged")
    writable.chmod(0o666)
    _, third = pair(NETWORKS["monocular"], engine, tmp_path)
    assert largest_deviation(plain(images), third(images)) < 1e-4
    assert sum(record.message.startswith("converting") for record in caplog.records) == 2
    assert writable.stat().st_mode & 0o777 == 0o600


def test_other_weights_are_another_network() -> None:
    network = build_network(NETWORKS["monocular"])
    initialise_untrained(network)
    before = weights_digest(network)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert weights_digest(network) != before


@torch.inference_mode()
def test_the_engine_is_chosen_where_a_model_is_loaded(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 255, (70, 98, 3), np.uint8)
    plain = DepthAnything3.from_pretrained("untrained:da3-small").inference([picture], process_res=98)
    model = DepthAnything3.from_options(ModelOptions("untrained:da3-small", device="cpu", engine=engine))  # type: ignore[arg-type]
    fast = model.inference([picture], process_res=98)
    assert model.engine == engine
    assert list((tmp_path / "da3_ros/engines").glob("*.step"))
    assert np.abs(plain.depth - fast.depth).max() < 1e-4 * plain.depth.max()


def test_engines_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="engine is 'tensorflow'; give one of auto, torch, openvino"):
        DepthAnything3.from_pretrained("untrained:da3-small", engine="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not run on cpu"):
        choose_engine("onnxruntime:cuda", torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    with pytest.raises(InputError, match=r'pip install "da3_ros\[openvino\]"'):
        choose_engine("openvino", torch.device("cpu"))
