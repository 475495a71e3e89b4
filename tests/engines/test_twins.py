# SPDX-License-Identifier: Apache-2.0
"""Every engine gives what torch gives, for each kind of network, at sizes that a test can afford."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from da3_core import engines
from da3_core.api import DepthAnything3
from da3_core.engines import choose_engine, is_installed, make_runtime
from da3_core.engines.compiled_steps import EngineState, file_digest, weights_digest
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

VIEWS, HEIGHT, WIDTH = 3, 42, 56
_HEAD = HeadConfig((16, 16, 16, 16), features=16)
_JOINT = BackboneConfig(128, depth=6, feed_forward="mlp", hidden=128, out_layers=(0, 1, 3, 5), joint_from=2)
_ALONE = BackboneConfig(128, depth=4, feed_forward="mlp", hidden=128, out_layers=(0, 1, 2, 3), joint_from=None)
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


def pair(config: NetworkConfig, engine: str, folder: Path, **options: Any) -> tuple[nn.Module, nn.Module, EngineState]:
    """A network with fixed weights, twice: as it is, and on an engine with these options."""
    plain, fast = build_network(config), build_network(config)
    initialise_untrained(plain)
    fast.load_state_dict(plain.state_dict())
    state = EngineState(make_runtime(engine, "float32"), weights_digest(fast), folder, **options)
    run_on(fast, state)
    return plain, fast, state


def converted(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The kinds of the steps that were converted."""
    messages = [record.message for record in caplog.records if record.message.startswith("converting")]
    return [message.split()[2] for message in messages]


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


@pytest.mark.parametrize("kind", ["wide feed-forward", "embedded", "Gaussians", "nested"])  # the others are parts of it
@torch.inference_mode()
def test_an_engine_gives_what_torch_gives(kind: str, engine: str, images: Tensor, steps: Path) -> None:
    plain, fast, _ = pair(NETWORKS[kind], engine, steps)
    options: dict[str, object] = {"export_feat_layers": [0, 3]}
    if kind == "Gaussians":
        options["infer_gs"] = True
    assert largest_deviation(plain(images, **options), fast(images, **options)) < 1e-4


@torch.inference_mode()
def test_rays_and_known_cameras(engine: str, images: Tensor, steps: Path) -> None:
    plain, fast, _ = pair(NETWORKS["any-view"], engine, steps)
    assert largest_deviation(plain(images, export_rays=True), fast(images, export_rays=True)) < 1e-4
    poses = torch.eye(4).repeat(1, VIEWS, 1, 1)
    poses[0, :, 0, 3] = torch.arange(VIEWS)
    calibration = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(1, VIEWS, 1, 1)
    assert largest_deviation(plain(images, poses, calibration), fast(images, poses, calibration)) < 1e-4


@torch.inference_mode()
def test_the_steps_serve_windows_of_any_length(
    engine: str, images: Tensor, steps: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fast, _ = pair(NETWORKS["any-view"], engine, steps)
    fast(images)
    caplog.clear()
    caplog.set_level("INFO", logger="da3_core.engines")
    for window in (images[:, :1], images[:, :2], images.repeat(1, 2, 1, 1, 1)):
        assert largest_deviation(plain(window), fast(window)) < 1e-4
    two = plain(images)["depth"][:, [0, 2]], fast(images, decoded=[0, 2])["depth"][:, [0, 2]]
    assert largest_deviation({"depth": two[0]}, {"depth": two[1]}) < 1e-4
    assert not converted(caplog)


@torch.inference_mode()
def test_a_conversion_waits_until_it_pays_and_the_next_start_finds_it(
    engine: str, images: Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="da3_core.engines")
    taken: list[nn.Module] = []
    plain, fast, state = pair(NETWORKS["monocular"], engine, tmp_path, patience_s=1000.0, taken_over=taken.append)
    expected = plain(images)
    assert largest_deviation(expected, fast(images)) == 0
    assert not converted(caplog)
    assert state.status == f"{engine}, torch until converting pays"
    state.patience_s = 1e-6
    assert largest_deviation(expected, fast(images)) < 1e-4
    assert converted(caplog) == ["embed", "decode"]
    assert len(taken) == 2
    assert state.status == engine

    caplog.clear()
    _, again, _ = pair(NETWORKS["monocular"], engine, tmp_path, patience_s=1000.0)
    assert largest_deviation(expected, again(images)) < 1e-4
    assert not caplog.records

    # A damaged file and one that others may write are not used.
    damaged, writable = sorted(tmp_path.glob("*.step"))
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"damaged")
    writable.chmod(0o666)
    _, third, _ = pair(NETWORKS["monocular"], engine, tmp_path)
    assert largest_deviation(expected, third(images)) < 1e-4
    assert len(converted(caplog)) == 2
    assert writable.stat().st_mode & 0o777 == 0o600


@torch.inference_mode()
def test_a_conversion_that_fails_leaves_it_to_torch(images: Tensor) -> None:
    pytest.importorskip("openvino")
    folder = Path("/proc/nowhere")  # where nothing can be kept
    plain, fast, state = pair(NETWORKS["monocular"], "openvino", folder, may_fail=True)
    assert largest_deviation(plain(images), fast(images)) == 0
    assert state.status.startswith("torch, because openvino cannot convert backbone embed")
    _, strict, _ = pair(NETWORKS["monocular"], "openvino", folder)
    with pytest.raises(InputError, match=r"cannot convert backbone embed .*: use engine torch"):
        strict(images)


def test_changed_weights_are_executed_by_torch(images: Tensor, steps: Path) -> None:
    pytest.importorskip("openvino")
    plain, fast, state = pair(NETWORKS["monocular"], "openvino", steps)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    with torch.inference_mode():
        fast(images)
    for network in (plain, fast):
        with torch.no_grad():
            next(network.head.parameters()).add_(0.5)
    with torch.inference_mode():
        assert largest_deviation(plain(images), fast(images)) < 1e-4
    assert state.status == "torch, because the weights of the model were changed after it was loaded"


def test_gradients_are_left_to_torch(images: Tensor, steps: Path) -> None:
    pytest.importorskip("openvino")
    _, fast, _ = pair(NETWORKS["monocular"], "openvino", steps)
    fast(images)["depth"].sum().backward()
    assert next(fast.backbone.parameters()).grad is not None


def test_other_weights_are_another_network() -> None:
    network = build_network(NETWORKS["monocular"])
    initialise_untrained(network)
    before = weights_digest(network)
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1
    assert weights_digest(network) != before


def test_a_file_of_weights_is_read_once(tmp_path: Path) -> None:
    """Its digest is remembered until somebody touches it, and only what the user alone could write is believed."""
    weights, cache = tmp_path / "weights", tmp_path / "cache"
    weights.write_bytes(b"one")
    first = file_digest(weights, cache)
    [note] = cache.iterdir()
    note.write_text("remembered")
    assert file_digest(weights, cache) == "remembered"
    note.chmod(0o666)
    assert file_digest(weights, cache) == first
    weights.write_bytes(b"two")
    assert file_digest(weights, cache) not in (first, "remembered")


@torch.inference_mode()
def test_the_engine_is_chosen_where_a_model_is_loaded(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (42, 56, 3), np.uint8)
    torch_model = DepthAnything3.from_pretrained("untrained:da3-small", engine="torch", precision="float32")
    torch_model.save_pretrained(tmp_path / "weights")
    plain = torch_model.inference([image], process_res=56)
    options = ModelOptions(str(tmp_path / "weights"), device="cpu", precision="float32", engine=engine)  # type: ignore[arg-type]
    model = DepthAnything3.from_options(options)
    fast = model.inference([image], process_res=56)
    assert model.engine == model.engine_status == engine
    assert list((tmp_path / "da3_ros/engines").glob("*.step"))
    assert np.abs(plain.depth - fast.depth).max() < 1e-4 * plain.depth.max()

    # The weights that the engine has taken over are on disk, and still those of the model.
    if sys.platform == "linux":
        assert str(tmp_path / "weights/model.safetensors") in Path("/proc/self/maps").read_text()
    for name, value in torch_model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_auto_takes_what_is_fastest_here(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(engines.platform, "machine", lambda: "x86_64")
    assert choose_engine("auto", cpu) == ("openvino" if is_installed("openvino") else "torch")
    assert choose_engine("auto", torch.device("cuda")) == "torch"
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    assert choose_engine("auto", cpu) == "torch"


def test_engines_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="engine is 'tensorflow'; give one of auto, torch, openvino"):
        DepthAnything3.from_pretrained("untrained:da3-small", engine="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not run on cpu"):
        choose_engine("onnxruntime:cuda", torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    with pytest.raises(InputError, match=r'pip install "da3_ros\[openvino\]"'):
        choose_engine("openvino", torch.device("cpu"))
