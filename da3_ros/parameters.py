# SPDX-License-Identifier: Apache-2.0
"""What is made of the table in `settings`: declarations, checks of changes, the YAML file, the reference.

`python -m da3_ros.parameters` prints config/da3.yaml; with `--markdown`, the reference of the documentation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from da3_core.errors import InputError
from da3_core.options import Option, declared
from da3_ros.rclpy_private import given_parameters
from da3_ros.settings import Settings

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

Value: TypeAlias = bool | int | float | str

OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")


@dataclass(frozen=True)
class Parameter:
    """One line of the table: an option under its full name. Where it may be left open, its value is 0 or empty then.

    Attributes:
        name: with its group, such as `window.size`.
        type: of its values.
    """

    name: str
    type: type
    option: Option

    @property
    def default(self) -> Value:
        return self.value_of(self.option.default)

    @property
    def description(self) -> str:
        return self.option.sentence + (f" {self._open}: {self.option.unset}." if self.option.is_optional else "")

    @property
    def _open(self) -> str:
        """What leaves it open, in words."""
        return "Empty" if self.type is str else "0"

    def value_of(self, chosen: Value | None) -> Value:
        """The parameter's value for one of `Settings`."""
        return self.type() if chosen is None else chosen

    def checked(self, value: object) -> Value:
        """The value in the parameter's type; a whole number serves as a float, an array of texts as one with commas.

        Raises:
            InputError: another type, not among the allowed values, out of range or not finite.
        """
        if self.type is float and type(value) is int:
            value = float(value)
        if self.type is str and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            value = ",".join(value)
        is_open = self.option.is_optional and value == self.type()
        if isinstance(value, Value) and type(value) is self.type and (is_open or self.option.allows(value)):
            return value
        raise InputError(f"The parameter {self.name} is {value!r}; allowed is {self.limits}.")

    def chosen(self, value: object) -> Value | None:
        """The value of `Settings`; raises as `checked`."""
        checked = self.checked(value)
        return None if self.option.is_optional and not checked else checked

    def parsed(self, text: str) -> Value:
        """The value that a text stands for, as given to a launch argument.

        Raises:
            InputError: as `checked`.
        """
        value: object = text
        with contextlib.suppress(KeyError, ValueError):  # `checked` says what is allowed instead
            value = {"true": True, "false": False}[text.lower()] if self.type is bool else self.type(text)
        return self.checked(value)

    @property
    def limits(self) -> str:
        """The allowed values in words."""
        return (f"{self._open.lower()} or " if self.option.is_optional else "") + self.option.limits


def table_of(settings: type, prefix: str = "") -> dict[str, Parameter]:
    """Every parameter by its full name, in the order of the fields, those of the groups after the others."""
    table = {}
    for name, each in declared(settings).items():
        if "node" in each.faces:
            assert each.kind is not None, f"{name} cannot be a parameter"
            table[prefix + name] = Parameter(prefix + name, each.kind, each)
    hints = get_type_hints(settings)
    for group in dataclasses.fields(settings):
        if dataclasses.is_dataclass(hints[group.name]):
            table |= table_of(hints[group.name], f"{group.name}.")
    return table


TABLE: dict[str, Parameter] = table_of(Settings)


def settings_from(values: Mapping[str, object]) -> Settings:
    """Settings with these values by full name, the others at their defaults.

    Raises:
        InputError: an unknown name, a value that is not allowed, or values that do not go together.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name not in TABLE:
            nearest = difflib.get_close_matches(name, TABLE, cutoff=0.0)
            raise InputError(
                f"There is no parameter {name!r}; the nearest are {', '.join(nearest)}, all are in config/da3.yaml."
            )
        group, _, key = name.rpartition(".")
        groups.setdefault(group, {})[key] = TABLE[name].chosen(value)
    defaults, top = Settings(), groups.pop("", {})
    top |= {group: dataclasses.replace(getattr(defaults, group), **each) for group, each in groups.items()}
    settings = dataclasses.replace(defaults, **top)
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    window = settings.window
    if window.stride >= max(window.size, 2):
        raise InputError(
            f"window.stride is {window.stride} and window.size {window.size}; windows must share views, so the stride "
            "must be smaller (1 for a size of 1)."
        )
    names, source = settings.camera_names, settings.pose_source
    are_names = all(re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) for name in names)
    if len(set(names)) < len(names) or not are_names:
        raise InputError(f"cameras is {settings.cameras!r}; give different names of letters, digits and underscores.")
    if source == "rig" and len(names) < 2:
        raise InputError("pose_source is rig, which is about several cameras; name them in cameras.")
    if source in ("tf", "odom_topic", "rig") and settings.scale.source not in ("auto", "poses"):
        raise InputError(
            f"pose_source {source} gives metres, which scale.source {settings.scale.source} contradicts; that must be "
            "auto or poses."
        )
    if settings.pose_required and source not in ("tf", "odom_topic"):
        raise InputError(f"pose_required came with pose_source {source}; it needs tf or odom_topic.")


def flat(settings: Settings) -> dict[str, Value]:
    """Every value by full name."""
    return {name: _get(settings, name) for name in TABLE}


def _get(settings: Settings, name: str) -> Value:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return TABLE[name].value_of(value)


def declare(node: Node) -> Settings:
    """Declare every parameter on a node, with what its command line and YAML files say, and return the settings.

    Raises:
        InputError: a file or the command line names an unknown parameter or gives a value that is not allowed.
    """
    given = {name: value for name, value in given_parameters(node).items() if not name.startswith(OF_EVERY_NODE)}
    settings = settings_from(given)
    for name, value in flat(settings).items():
        node.declare_parameter(name, value, _descriptor(TABLE[name]), ignore_override=True)
    return settings


def read(node: Node) -> Settings:
    """The settings that the node's parameters have now."""
    return settings_from({name: node.get_parameter(name).value for name in TABLE})


def cameras_of(given: str) -> tuple[str, ...]:
    """The names that a launch argument `cameras` gives; none for a single camera.

    Raises:
        InputError: they are none.
    """
    return settings_from({"cameras": given}).camera_names


def frame_in_namespace(map_frame: str, namespace: str) -> str:
    """The default `map_frame` is another one in every namespace, so that maps of several nodes do not get mixed up.

    Any other name is taken as it is, and `/da3_map` is the default's in every namespace.
    """
    name, prefix = map_frame.lstrip("/"), namespace.strip("/")
    return f"{prefix}/{name}" if prefix and map_frame == TABLE["map_frame"].default else name


def changed(settings: Settings, changes: Mapping[str, object], *, configured: bool) -> Settings:
    """The settings after a set of parameters; names that every node has are passed over.

    Raises:
        InputError: unknown, not allowed, or not possible while the node is configured.
    """
    ours = {name: value for name, value in changes.items() if not name.startswith(OF_EVERY_NODE)}
    result = settings_from({**flat(settings), **ours})
    for name in ours:
        if configured and not TABLE[name].option.dynamic and _get(result, name) != _get(settings, name):
            raise InputError(
                f"The parameter {name} is {_get(settings, name)!r} and takes effect when the node is configured; "
                "deactivate and clean up the node, set it, then configure it again."
            )
    return result


def _descriptor(line: Parameter) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    descriptor = ParameterDescriptor(
        description=line.description,
        additional_constraints=f"{line.limits}; {_when(line)}",
        dynamic_typing=True,  # a wrong type is refused by `Parameter.checked`, whose words are clearer than rclpy's
    )
    low, high = 0 if line.option.is_optional else line.option.low, line.option.high
    if line.type is float and (math.isfinite(low) or math.isfinite(high)):
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    if line.type is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _when(line: Parameter) -> str:
    return "at once" if line.option.dynamic else "at configure"


def to_yaml() -> str:
    """The parameter file with every default and a comment on each."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Every parameter of the node with its default. Written by `python -m da3_ros.parameters`: change it there,",
        "# or copy the lines that you need into a file of your own.",
        "/**:",
        "  ros__parameters:",
    ]
    group = ""
    for line in TABLE.values():
        this_group, _, key = line.name.rpartition(".")
        indent = "      " if this_group else "    "
        if this_group != group:
            lines.append(f"    {this_group}:")
        group = this_group
        lines.append(f"{indent}# {line.description}")
        lines.append(f"{indent}{key}: {_yaml(line.default)}  # {line.limits}; {_when(line)}")
    return "\n".join(lines) + "\n"


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def to_markdown() -> str:
    """The reference table of the documentation."""
    lines = ["| Parameter | Type | Default | Allowed | Effect | Meaning |", "|---|---|---|---|---|---|"]
    for line in TABLE.values():
        kind = {bool: "bool", int: "int", float: "double", str: "string"}[line.type]
        default = _yaml(line.default).strip('"')
        lines.append(f"| `{line.name}` | {kind} | `{default}` | {line.limits} | {_when(line)} | {line.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_markdown() if "--markdown" in sys.argv[1:] else to_yaml())
