# SPDX-License-Identifier: Apache-2.0
"""The weights in an ONNX file, without the package `onnx`: the few needed protobuf fields are read directly."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Numbers of protobuf fields in onnx.proto (ONNX 1.x).
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE = 1, 2, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT = 1


class Node(NamedTuple):
    """An operation of the graph: its type, the names of its inputs, and that of its output."""

    kind: str
    inputs: list[str]
    output: str


def read_graph(model: memoryview) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The operations of a model, and its float32 constants by name."""
    graph = next(value for field, _, value in _fields(model) if field == _MODEL_GRAPH)
    nodes: list[Node] = []
    constants: dict[str, np.ndarray] = {}
    for field, _, value in _fields(graph):
        if field == _GRAPH_NODE:
            nodes.append(_read_node(value))
        elif field == _GRAPH_INITIALIZER:
            constants |= _read_tensor(value)
    return nodes, constants


def _read_node(message: memoryview) -> Node:
    kind, inputs, output = "", [], ""
    for field, _, value in _fields(message):
        if field == _NODE_TYPE:
            kind = str(value, "utf-8")
        elif field == _NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif field == _NODE_OUTPUT:
            output = str(value, "utf-8")
    return Node(kind, inputs, output)


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
