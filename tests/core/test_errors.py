# SPDX-License-Identifier: Apache-2.0
"""Sentences of the library name options as Python does; each face writes them its own way."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
import typer

from da3_core.bag.options import BagOptions
from da3_core.cli import app
from da3_core.cli.spelling import option_of
from da3_core.errors import InputError, OptionError
from da3_core.web.app.images import label_of

LIBRARY = Path(__file__).resolve().parents[2] / "da3_core"
SOURCES = [path for path in LIBRARY.rglob("*.py") if "cli" not in path.relative_to(LIBRARY).parts]


def test_options_are_spelled_and_values_are_left_alone() -> None:
    error = OptionError("{pose_source} is {given!r}: give {most:.1f}", given="{odom_frame} --x", most=2)
    assert str(error) == "pose_source is '{odom_frame} --x': give 2.0"
    assert error.spelled(option_of) == "--pose-source is '{odom_frame} --x': give 2.0"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_within_an_error_is_spelled_too() -> None:
    inner = OptionError("give another {backend_url}")
    outer = OptionError("{error}; task {task}", error=inner, task=7)
    assert outer.spelled(option_of) == "give another --backend-url; task 7"
    assert InputError("{plain} text").spelled(option_of) == "{plain} text"


def test_python_is_told_of_the_field() -> None:
    with pytest.raises(InputError, match=r"^image_topics names one topic twice: /a, /a$"):
        BagOptions(image_topics=("/a", "/a"))


def constants(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def test_the_library_writes_no_option_of_the_command_line() -> None:
    told = [(path.name, text) for path in SOURCES for text in constants(ast.parse(path.read_text()))]
    assert [each for each in told if re.search(r"(?<![\w-])(?<!var\()--(?!color-|no-deps )[a-z]", each[1])] == []


def named_options() -> set[str]:
    """The placeholders without a value in the sentences of `OptionError`s."""
    kinds = {"OptionError", "NotAllowedError", "PortError", "_LostError", "_UnreachableError"}
    named: set[str] = set()
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds:
                values = {keyword.arg for keyword in call.keywords}
                parts = [part for text in constants(call.args[0]) for part in Formatter().parse(text)]
                named |= {field for _, field, _, _ in parts if field and field not in values}
    return named


def test_every_option_that_is_named_is_one_of_a_command_or_a_control_of_the_app() -> None:
    command = typer.main.get_command(app)
    there = {name for each in command.commands.values() for option in each.params for name in option.opts}
    named = named_options()
    assert {"pose_source", "image_topics", "start_s", "export_dir"} <= named
    controls = {name for name in named if label_of(name) != name}  # of the web app, which has labels for options
    assert {option_of(name) for name in named - controls} <= there
