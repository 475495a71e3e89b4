# SPDX-License-Identifier: Apache-2.0
"""Declarations of options: what they allow, what they say, and that the library's functions have the same defaults."""

import inspect
import math
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import numpy as np
import pytest

from da3_core import DepthAnything3
from da3_core.bag.options import BagOptions
from da3_core.errors import InputError
from da3_core.export import EXPORTERS, options_of
from da3_core.options import (
    EXPORT_FORMATS,
    LEAST_CONFIDENT,
    Checked,
    InferenceOptions,
    ModelOptions,
    PointOptions,
    SceneOptions,
    declared,
    option,
    same_option,
)
from da3_core.web.app.clouds import CloudOptions

OWNERS = [ModelOptions, InferenceOptions, SceneOptions, PointOptions, BagOptions, *map(options_of, EXPORTERS)]


@dataclass(frozen=True)
class Fruit(Checked):
    kind: Literal["apple", "pear"] = option("apple", "Which tree it grew on.")
    name: str = option("it", "What it is called.")
    seeds: int | None = option(None, "How many.", low=1, high=9, unset="unknown")
    weight_kg: float = option(0.2, "On a scale.", low=0)
    ripe: bool = option(True, "Whether it may be eaten.")


@dataclass(frozen=True)
class Basket(Checked):
    most: int | None = same_option(Fruit, "seeds", default=4)


def test_every_cloud_leaves_out_the_same_share() -> None:
    names = ("glb", "ply", "colmap", "nerfstudio")
    shares = [declared(options_of(name))["conf_thresh_percentile"].default for name in names]
    shares += [declared(PointOptions)["confidence_percentile"].default, CloudOptions().filter_percentage]
    shares += [inspect.signature(DepthAnything3.inference).parameters["conf_thresh_percentile"].default]
    assert set(shares) == {LEAST_CONFIDENT}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("kind", ["pear"], ["plum", "", None, 1]),
        ("name", ["x"], ["", None, 1]),
        ("seeds", [None, 1, 9, np.int64(3)], [0, 10, 1.0, True, "1", np.array([1, 2])]),
        ("weight_kg", [0, 2.5, np.float32(1)], [-0.1, math.nan, math.inf, False, "1", None]),
        ("ripe", [False], [0, 1, None, "true"]),
    ],
)
def test_values_have_the_type_and_are_within_the_limits(name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(Fruit(**{name: value}), name) is value
    for value in bad:
        with pytest.raises(InputError, match=name):
            Fruit(**{name: value})


def test_refusals_say_what_came_and_what_is_allowed() -> None:
    for values, said in (
        ({"kind": "plum"}, "kind is 'plum'; give one of apple, pear"),
        ({"seeds": 10}, "seeds is 10; give a whole number from 1 to 9"),
        ({"weight_kg": -1}, "weight_kg is -1; give a number of at least 0"),
    ):
        with pytest.raises(InputError, match=f"^{said}$"):
            Fruit(**values)


def test_the_same_option_may_stand_elsewhere() -> None:
    here, there = declared(Fruit)["seeds"], declared(Basket)["most"]
    assert (there.sentence, there.low, there.high, there.unset) == (here.sentence, here.low, here.high, here.unset)
    assert Basket().most == 4
    with pytest.raises(InputError, match="most is 10"):
        Basket(most=10)


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: f"{owner.__module__}.{owner.__name__}")
def test_every_declaration_is_complete_and_allows_its_default(owner: type) -> None:
    for each in declared(owner).values():
        assert each.sentence.endswith("."), each.name
        assert each.allows(each.default), each.name
        assert each.is_optional or not each.unset or each.kind is None, each.name
    undeclared = {each.name for each in fields(owner)} - set(declared(owner))
    assert undeclared <= {"points"}  # a group of its own


def test_functions_of_the_library_have_the_defaults_of_the_declarations() -> None:
    from da3_core.api import DepthAnything3
    from da3_core.preprocessing import preprocess

    official = {"infer_gs", "export_feat_layers", "export_format", "export_kwargs", "conf_thresh_percentile"}
    official |= {"num_max_points", "show_cameras", "feat_vis_fps"}  # held by a test of `inference`
    for function, owner, others in (
        (DepthAnything3.inference, SceneOptions, official),
        (DepthAnything3.from_pretrained, ModelOptions, {"device"}),  # a library leaves it where its caller wants it
        (preprocess, InferenceOptions, {"process_res"}),
    ):
        parameters = inspect.signature(function).parameters
        shared = (declared(owner).keys() & parameters.keys()) - others
        assert shared
        assert {name: parameters[name].default for name in shared} == {
            name: declared(owner)[name].default for name in shared
        }
    signature = inspect.signature(DepthAnything3.inference).parameters
    assert signature["export_format"].default == EXPORT_FORMATS["library"]
    assert inspect.signature(DepthAnything3.from_pretrained).parameters["source"].default == ModelOptions.model
    without = {name for name, each in declared(SceneOptions).items() if name not in signature}
    assert without == {"max_views_per_window"}  # of scenes too large for one inference
    assert MISSING not in (each.default for each in declared(SceneOptions).values())
