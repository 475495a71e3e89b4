# SPDX-License-Identifier: Apache-2.0
"""Values that the command line parses itself."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from da3_core.bag.options import BagOptions
from da3_core.cli.arguments import flatten_arguments, parse_export_kwargs, parse_layers
from da3_core.options import InferenceOptions, ModelOptions, PointOptions, SceneOptions


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
    assert parse_layers("0, 5,11") == (0, 5, 11)
    assert parse_layers(" ") == ()
    with pytest.raises(typer.BadParameter, match="block numbers"):
        parse_layers("5,high")


def test_what_commands_get_without_options_are_the_defaults_of_the_declarations() -> None:
    taken: dict[str, Any] = {}

    @flatten_arguments("bag", point_options="points_")
    def command(
        options: BagOptions, point_options: PointOptions, inference: InferenceOptions, model: ModelOptions
    ) -> None:
        taken.update(options=options, points=point_options, inference=inference, model=model)

    app = typer.Typer()
    app.command()(command)
    assert CliRunner().invoke(app, []).exit_code == 0
    assert taken == {
        "options": BagOptions(),
        "points": PointOptions(),
        "inference": InferenceOptions(),
        "model": ModelOptions(),
    }
    asked = ["--points-max-depth", "3", "--start", "2.5", "--image-topic", "/a", "--image-topic", "/b", "--model", "x"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert taken["points"] == PointOptions(max_depth_m=3.0)
    assert taken["options"] == BagOptions(start_s=2.5, image_topics=("/a", "/b"))
    assert taken["model"] == ModelOptions(model="x")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--export-feat", "a"], "'--export-feat': 'a' is not a list of block numbers"),
        (["--export-kwargs", "glb"], "'--export-kwargs': 'glb' is not of the form FORMAT:KEY:VALUE"),
        (["--process-res", "3"], "'--process-res'"),
        (["--pose-method", "best"], "'best' is not one of"),
    ],
)
def test_values_that_an_option_does_not_allow_are_usage_errors(asked: list[str], said: str) -> None:
    @flatten_arguments("command")
    def command(options: SceneOptions) -> None: ...

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert said in result.stderr
