# SPDX-License-Identifier: Apache-2.0
"""Example scenes and the results that are kept of them."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from da3_core.prediction import Prediction
from da3_core.web.app.examples import Example, ExampleCache, find_examples
from da3_core.web.app.reconstruct import Choices
from da3_core.web.app.stored import load_prediction, save_prediction


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    for name in ("room/10.png", "room/9.webp", "garden 3dgs/a.jpg", "room/notes.png.txt", ".hidden/a.png"):
        (tmp_path / "examples" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "examples" / name, "PNG")
    (tmp_path / "examples/empty").mkdir()
    return find_examples(tmp_path / "examples")


def test_examples_are_folders_with_pictures_in_natural_order(examples: list[Example], tmp_path: Path) -> None:
    assert [example.name for example in examples] == ["garden 3dgs", "room"]
    assert [path.name for path in examples[1].images] == ["9.webp", "10.png"]
    assert find_examples(tmp_path / "nowhere") == []


def test_a_prediction_survives_the_disk_bit_by_bit(prediction: Prediction, tmp_path: Path) -> None:
    for before in (prediction, replace(prediction, conf=None, extrinsics=None, image_names=None, scale_factor=2.5)):
        save_prediction(before, tmp_path / "kept/prediction.npz")
        after = load_prediction(tmp_path / "kept/prediction.npz")
        for field in fields(Prediction):
            old, new = getattr(before, field.name), getattr(after, field.name)
            assert type(old) is type(new), field.name
            np.testing.assert_array_equal(old, new)


class Computing:
    """Gives every example the same result, and remembers what it was asked for."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.asked: list[tuple[str, Choices]] = []

    def __call__(self, example: Example, choices: Choices, folder: Path) -> Prediction:
        self.asked.append((example.name, choices))
        (folder / "some.jpg").write_text(example.name)
        return self.prediction


def test_results_are_computed_once_and_anew_when_something_changed(
    examples: list[Example], prediction: Prediction, tmp_path: Path
) -> None:
    compute = Computing(prediction)
    cache = ExampleCache(tmp_path / "kept", "da3-giant", None, "3dgs")
    cache.fill(examples, compute)
    assert compute.asked == [("garden 3dgs", Choices(method="high_res", infer_gs=True)), ("room", Choices())]
    cache.fill(examples, compute)
    assert len(compute.asked) == 2
    kept = cache.load(examples[1])
    np.testing.assert_array_equal(kept.depth, prediction.depth)
    cache.copy_files(examples[1], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["some.jpg"]

    assert replace(cache, model="da3-base").load(examples[1]) is None
    assert replace(cache, process_res=700).load(examples[1]) is None
    Image.new("RGB", (9, 9)).save(examples[1].images[0])
    cache.fill(examples, compute)
    assert [name for name, _ in compute.asked[2:]] == ["room"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["example_garden 3dgs", "example_room"]


def test_a_damaged_result_is_computed_anew(examples: list[Example], prediction: Prediction, tmp_path: Path) -> None:
    compute = Computing(prediction)
    cache = ExampleCache(tmp_path / "kept", "da3-base", None)
    cache.fill(examples, compute)
    (tmp_path / "kept/example_room/prediction.npz").write_bytes(b"PK\x03\x04 half of it")
    assert cache.load(examples[1]) is None
    cache.fill(examples, compute)
    assert [name for name, _ in compute.asked] == ["garden 3dgs", "room", "room"]
    assert cache.load(examples[1]) is not None


def test_a_failed_example_leaves_nothing_behind(examples: list[Example], tmp_path: Path) -> None:
    def fail(example: Example, choices: Choices, folder: Path) -> Prediction:
        (folder / "half").touch()
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        ExampleCache(tmp_path / "kept", "da3-base", None).fill(examples, fail)
    assert not (tmp_path / "kept").exists()
