# SPDX-License-Identifier: Apache-2.0
"""Values that the command line parses itself."""

import inspect
from dataclasses import fields

import pytest
import typer

from da3_core.cli.arguments import ColmapArguments, ExportArguments, ModelArguments, parse_export_kwargs, parse_layers
from da3_core.options import DEFAULT_MODEL


def test_export_kwargs_know_words_numbers_and_texts_with_colons() -> None:
    text = "glb:sky:far, glb:size:0.5,colmap:text:True,gs_video:vis_depth:none,feat_vis:fps:30,npz:note:a:b:c"
    assert parse_export_kwargs(text) == {
        "glb": {"sky": "far", "size": 0.5},
        "colmap": {"text": True},
        "gs_video": {"vis_depth": None},
        "feat_vis": {"fps": 30},
        "npz": {"note": "a:b:c"},
    }
    assert parse_export_kwargs("") == {}
    assert isinstance(parse_export_kwargs("a:b:30")["a"]["b"], int)


@pytest.mark.parametrize("text", ["glb", "glb:sky", "glb:sky:", ":sky:far", "glb::far"])
def test_incomplete_export_kwargs_are_usage_errors(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="FORMAT:KEY:VALUE"):
        parse_export_kwargs(text)


def test_layers_are_a_list_of_whole_numbers_or_nothing() -> None:
    assert parse_layers("0, 5,11") == [0, 5, 11]
    assert parse_layers(" ") is None
    with pytest.raises(typer.BadParameter, match="block numbers"):
        parse_layers("5,high")


def test_defaults_are_those_of_the_library() -> None:
    from da3_core.api import DepthAnything3

    library = {
        name: parameter.default
        for function in (DepthAnything3.from_pretrained, DepthAnything3.inference)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    shared = {
        field.name: field.default
        for group in (ModelArguments, ExportArguments, ColmapArguments)
        for field in fields(group)
        if field.name in library and (field.default is not None or field.name == "process_res")
    }
    # A library writes no files unless asked to, leaves the device to its caller and takes a mapping.
    command_line_only = {"device", "export_dir", "export_format", "export_kwargs"}
    assert {name: library[name] for name in shared.keys() - command_line_only} == {
        name: default for name, default in shared.items() if name not in command_line_only
    }
    assert ModelArguments.model_dir == library["source"] == DEFAULT_MODEL
    assert {"precision", "weights_licence", "process_res", "ref_view_strategy"} <= shared.keys()
