# SPDX-License-Identifier: Apache-2.0
"""Options of an export format: a frozen dataclass per format, built from what a person typed, checked in one place."""

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from da3_core.errors import InputError

T = TypeVar("T")


def number(default: Any, low: float, high: float = float("inf")) -> Any:
    """A field of an options dataclass whose value must lie in `[low, high]`."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def build_options(cls: type[T], values: Mapping[str, Any], format_name: str) -> T:
    """The options of a format, `values` over the defaults.

    Raises:
        InputError: an option that the format does not have, or a value of the wrong type or outside its range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in fields:
            allowed = f"it has {', '.join(fields)}" if fields else "it has no options"
            raise InputError(f"export format {format_name!r} has no option {key!r}: {allowed}")
        low, high = fields[key].metadata.get("low"), fields[key].metadata.get("high")
        if not _fits(value, hints[key]) or (low is not None and value is not None and not low <= value <= high):
            raise InputError(
                f"option {key!r} of export format {format_name!r} is {value!r}: it must be "
                f"{_describe(hints[key])}{_describe_range(low, high)}"
            )
    return cls(**values)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        accepted = (int,) if hint is int else (int, float)
        # NumPy numbers are numbers too; a bool is an int in Python only by accident.
        return isinstance(getattr(value, "item", lambda: value)(), accepted) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    return value is None if hint is type(None) else True


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "none"}
    return names.get(hint, "an array")


def _describe_range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f" of at least {low:g}" if high == float("inf") else f" from {low:g} to {high:g}"
