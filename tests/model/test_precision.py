# SPDX-License-Identifier: Apache-2.0
"""Which number format `auto` becomes on a CPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from da3_core.model import precision
from da3_core.model.precision import MIN_GAIN, autocast_dtype, bfloat16_gain, describe

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the user, and a process that has measured nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bfloat16_gain.cache_clear()
    yield tmp_path / "da3_ros"
    bfloat16_gain.cache_clear()


def test_it_is_measured_once_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_TURNS", 3)
    gain = bfloat16_gain()
    assert gain > 0
    [note] = cache.iterdir()
    assert float(note.read_text()) == pytest.approx(gain, abs=1e-3)

    for found, dtype in ((MIN_GAIN, torch.bfloat16), (MIN_GAIN - 0.01, None)):
        note.write_text(str(found))
        bfloat16_gain.cache_clear()
        assert autocast_dtype("auto", CPU) is dtype
    assert describe("auto", CPU) == "float32, since products in bfloat16 take 0.67 of the time of float32"
    assert describe("bfloat16", CPU) == "bfloat16"

    note.write_text("nonsense")
    bfloat16_gain.cache_clear()
    assert bfloat16_gain() > 0
    assert float(note.read_text()) > 0
