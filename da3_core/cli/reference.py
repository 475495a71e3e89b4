# SPDX-License-Identifier: Apache-2.0
"""The tables of the documentation that are made of the declarations: commands, formats, HTTP requests and models.

`python -m da3_core.cli.reference commands` prints the first of them; then `formats`, `request` and `models`.
"""

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.models import OptionInfo, ParameterInfo

from da3_core.options import Option, declared

# Commands whose options are told together.
GROUPS = (("auto", "image", "images", "video", "colmap"), ("bag",), ("intrinsics",), ("backend",), ("gradio",))


def commands() -> str:
    """Every command with its options."""
    from da3_core.cli import app

    known = {
        str(each.name or each.callback.__name__).replace("_", "-"): each.callback
        for each in app.registered_commands
        if each.callback
    }
    alone = [(name,) for name in known if not any(name in group for group in GROUPS)]
    return "\n\n".join(_section({name: known[name] for name in group}) for group in (*GROUPS, *alone))


def _section(group: dict[str, Callable[..., Any]]) -> str:
    heading = "## " + ", ".join(f"`da3 {name}`" if name == next(iter(group)) else f"`{name}`" for name in group)
    about = [
        f"`{name}`: {command.__doc__}" if len(group) > 1 else str(command.__doc__) for name, command in group.items()
    ]
    having: dict[str, list[str]] = {}
    rows: dict[str, tuple[inspect.Parameter, OptionInfo]] = {}
    for name, command in group.items():
        for parameter in inspect.signature(command).parameters.values():
            info = next(each for each in get_args(parameter.annotation) if isinstance(each, ParameterInfo))
            if isinstance(info, OptionInfo):
                rows.setdefault(parameter.name, (parameter, info))
                having.setdefault(parameter.name, []).append(name)
    return "\n\n".join(
        [
            heading,
            "  \n".join(about),
            _table(
                ("Option", "Value", "Default", "Meaning"),
                [_row(*row, having[name] if len(having[name]) < len(group) else ()) for name, row in rows.items()],
            ),
        ]
    )


def _row(parameter: inspect.Parameter, info: OptionInfo, only: Sequence[str]) -> tuple[str, ...]:
    """Spelling, value, default and meaning of an option, and which commands alone have it."""
    hint = get_args(parameter.annotation)[0]
    kinds = [each for each in get_args(hint) or (hint,) if each is not type(None)]
    is_flag = kinds == [bool]
    dashed = parameter.name.replace("_", "-")
    # What stands first in an annotation is kept where a default would be.
    given = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    spelled = given or [f"--{dashed}/--no-{dashed}" if is_flag else f"--{dashed}"]
    if isinstance(info.show_default, str):
        default = info.show_default
    elif is_flag:
        default = "on" if parameter.default else "off"
    else:
        default = "needed" if parameter.default is parameter.empty else f"`{parameter.default}`"
    where = f" ({', '.join(only)})" if only else ""
    return (
        ", ".join(f"`{each}`" for each in spelled),
        "" if is_flag else _value(kinds, info),
        default if parameter.default not in (None, "") or isinstance(info.show_default, str) else "",
        f"{info.help}{where}",
    )


def _value(kinds: Sequence[Any], info: OptionInfo) -> str:
    """What may follow an option."""
    if all(isinstance(each, str) for each in kinds):
        return ", ".join(kinds)
    words = {int: "whole number", float: "number", Path: "folder or file", str: "text"}
    if info.metavar:
        return info.metavar
    [kind] = (each for each in kinds if each is not type(None))
    text = words[get_args(kind)[0] if get_origin(kind) is list else kind]
    if info.min is not None and info.max is not None:
        return f"{text} from {info.min:.7g} to {info.max:.7g}"
    return text if info.min is None else f"{text} of at least {info.min:.7g}"


def formats() -> str:
    """Every export format, then their options."""
    from da3_core.export import EXPORTERS, options_of

    files = [
        (f"`{name}`", exporter.summary + ".", ", ".join(f"`{each}`" for each in exporter.files))
        for name, exporter in EXPORTERS.items()
    ]
    options = [
        (f"`{name}`", f"`{each.name}`", each.limits, _shown(each), each.sentence)
        for name in EXPORTERS
        for each in declared(options_of(name)).values()
    ]
    return "\n\n".join(
        [
            _table(("Format", "Holds", "Files"), files),
            _table(("Format", "Option", "Value", "Default", "Meaning"), options),
        ]
    )


def request() -> str:
    """The fields of a request to `/inference`."""
    from da3_core.web.backend.schema import InferenceRequest

    rows = []
    for name, each in InferenceRequest.model_fields.items():
        default = "needed" if each.is_required() else f"`{_json(each.get_default())}`"
        rows.append((f"`{name}`", default, str(each.description)))
    return _table(("Field", "Default", "Meaning"), rows)


def models() -> str:
    """Every preset."""
    from da3_core.model.presets import PRESETS

    rows = [
        (
            f"`{name}`",
            preset.gives,
            preset.licence,
            f"{preset.parameters / 1e6:.0f} M",
            f"{preset.weights_bytes / 1e9:.1f} GB",
        )
        for name, preset in PRESETS.items()
    ]
    return _table(("Model", "Gives", "Licence of the weights", "Parameters", "Download"), rows)


def _shown(each: Option) -> str:
    return each.unset if each.unset and each.default is None else f"`{_json(each.default)}`"


def _json(value: object) -> str:
    """As a person writes it, without the quotes of a text."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return "[]" if value == () else f"{value}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(
        {"commands": commands, "formats": formats, "request": request, "models": models}[sys.argv[1]]() + "\n"
    )
