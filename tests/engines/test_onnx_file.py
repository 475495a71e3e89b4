# SPDX-License-Identifier: Apache-2.0
"""ONNX files of whole networks, at sizes that a test can afford."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from da3_core.cli import app
from da3_core.errors import InputError
from da3_core.network import build_network
from da3_core.network.config import AnyViewConfig, BackboneConfig, HeadConfig, MonocularConfig, NetworkConfig
from da3_core.network.untrained import initialise_untrained

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from da3_core.engines import onnx_file

SIZE = (42, 56)
_HEAD = HeadConfig((8, 8, 8, 8), features=8)
_JOINT = BackboneConfig(64, depth=6, feed_forward="mlp", hidden=64, out_layers=(0, 1, 3, 5), joint_from=2)
_ALONE = BackboneConfig(64, depth=4, feed_forward="mlp", hidden=64, out_layers=(0, 1, 2, 3), joint_from=None)
NETWORKS: dict[str, NetworkConfig] = {
    "any-view": AnyViewConfig(_JOINT, _HEAD),
    "wide feed-forward": AnyViewConfig(replace(_JOINT, feed_forward="swiglu"), _HEAD),
    "embedded": AnyViewConfig(replace(_JOINT, rotary=False), _HEAD, camera_encoder=False),
    "monocular": MonocularConfig(_ALONE, _HEAD),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_file_gives_what_torch_gives_for_any_number_of_views(kind: str, tmp_path: Path) -> None:
    """`write_onnx` compares them itself, at 1, 2 and 4 views; it was made of 3."""
    network = build_network(NETWORKS[kind])
    initialise_untrained(network)
    written = onnx_file.write_onnx(network, tmp_path / "network.onnx", SIZE, None)
    assert written.deviation.keys() == {1, 2, 4}
    assert max(written.deviation.values()) < 1e-4
    assert written.shapes["images"] == ("views", 3, *SIZE)
    assert written.shapes["depth"] == ("views", *SIZE)
    assert ("intrinsics" in written.shapes) == (kind != "monocular")

    # The comparison compares: other weights are another network.
    with torch.no_grad():
        next(network.head.parameters()).mul_(1.5)
    whole = onnx_file._Whole(network).eval()
    with torch.no_grad(), pytest.raises(InputError, match="deviates from torch"):
        onnx_file._compared(whole, written.path, SIZE, (2,))


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    result = CliRunner().invoke(
        app, ["export-model", "untrained:da3-small", str(path), "--views", "2", "--size", "42x56", "--json"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert path.is_file()
    assert told["shapes"]["world_to_camera"] == [2, 3, 4]
    assert told["deviation_from_torch"]["2"] < 1e-3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--size", "50x56"], "multiples of 14"),
        (["--size", "big"], "give height and width"),
        (["--views", "some"], "give a number or dynamic"),
    ],
)
def test_what_cannot_be_written(arguments: list[str], reason: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export-model", "untrained:da3-small", str(tmp_path / "x.onnx"), *arguments])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not list(tmp_path.iterdir())
