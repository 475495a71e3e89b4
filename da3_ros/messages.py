# SPDX-License-Identifier: Apache-2.0
"""Values of `da3_core.ros_data` as messages of ROS.

Pixels and points go into the memory of a message as whole buffers, never element by element. The plain twin is
`da3_core.ros_data.values.packed`.
"""

from __future__ import annotations

import array
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from da3_core.ros_data.values import LateBytes, MessageValue


@cache
def message_class(type_name: str) -> Any:
    """The class of `sensor_msgs/msg/Image`."""
    package, _, name = type_name.partition("/msg/")
    return getattr(import_module(f"{package}.msg"), name)


def packed(value: MessageValue) -> Any:
    """The message of a value."""
    message = message_class(value.type)()
    _fill(message, value)
    return message


def _fill(message: Any, value: MessageValue) -> None:
    """In place, since what is assigned to a field may be checked element by element or copied."""
    for name, content in value.fields.items():
        if isinstance(content, MessageValue):
            _fill(getattr(message, name), content)
        elif isinstance(content, np.ndarray):
            _fill_numbers(getattr(message, name), content)
        elif isinstance(content, LateBytes):
            content.write(_grown(getattr(message, name), content.size))
        elif isinstance(content, list):
            setattr(message, name, [packed(each) if isinstance(each, MessageValue) else each for each in content])
        else:
            setattr(message, name, content)


def _fill_numbers(field: Any, numbers: np.ndarray) -> None:
    """`field` is empty and grows, or it is an array of a fixed size."""
    if isinstance(field, array.array):
        field.frombytes(np.ascontiguousarray(numbers, field.typecode).view(np.uint8).data)
    else:
        field[:] = numbers


def _grown(field: array.array[int], size: int) -> np.ndarray:
    """The memory of an array that was empty and has so many bytes now."""
    field.append(0)
    field *= size
    return np.frombuffer(field, np.uint8)
