# SPDX-License-Identifier: Apache-2.0
"""One option on its way from its declaration to every face: photographs that are stored lying on their side."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from da3_core.options import InferenceOptions, declared

QUARTER_TURN = 6  # what a camera held upright writes into the tag Orientation, 0x0112


@pytest.fixture
def lying(tmp_path: Path) -> Path:
    """A photograph of 80 x 112 pixels that is stored as 112 x 80."""
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = QUARTER_TURN
    pixels = np.random.default_rng(0).integers(0, 255, (80, 112, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize(("asked", "size"), [((), [56, 84]), (("--apply-exif",), [84, 56])])
def test_the_command_turns_images_upright_when_asked(
    da3: Callable[..., Result], lying: Path, asked: tuple[str, ...], size: list[int]
) -> None:
    small = ("--model", "untrained:da3-small", "--process-res", "84", "--device", "cpu", "--export-format", "mini_npz")
    result = da3("image", lying, *small, "--json", *asked)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["processed_size"] == size


def test_requests_over_http_take_it_and_say_what_it_is() -> None:
    schema = pytest.importorskip("da3_core.web.backend.schema", reason="needs the extra service")
    request = schema.InferenceRequest(image_paths=["photo.jpg"], apply_exif=True)
    assert request.scene_options().apply_exif is True
    assert schema.InferenceRequest(image_paths=["photo.jpg"]).scene_options().apply_exif is False
    told = schema.InferenceRequest.model_json_schema()["properties"]["apply_exif"]
    assert told["description"] == declared(InferenceOptions)["apply_exif"].sentence


def test_streams_and_bags_have_no_files_and_do_not_offer_it(da3: Callable[..., Result]) -> None:
    from da3_ros.parameters import TABLE

    assert "apply_exif" not in TABLE
    refused = da3("bag", "trip", "--apply-exif")
    assert refused.exit_code == 2
    assert "No such option" in refused.stderr
