# SPDX-License-Identifier: Apache-2.0
"""Options of an export format: the frozen dataclass of its module, built from what a person typed."""

from collections.abc import Mapping
from typing import Any, TypeVar

from da3_core.errors import InputError
from da3_core.options import declared

T = TypeVar("T")


def build_options(cls: type[T], values: Mapping[str, Any], format_name: str) -> T:
    """The options of a format, `values` over the defaults.

    Raises:
        InputError: an option that the format does not have, or a value of the wrong type or outside its range.
    """
    options = declared(cls)
    for key, value in values.items():
        if key not in options:
            allowed = f"it has {', '.join(options)}" if options else "it has no options"
            raise InputError(f"export format {format_name!r} has no option {key!r}: {allowed}")
        if not options[key].allows(value):
            none = " or none" if options[key].is_optional else ""
            raise InputError(
                f"option {key!r} of export format {format_name!r} is {value!r}: it must be {options[key].limits}{none}"
            )
    return cls(**values)
