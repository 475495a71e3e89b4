# SPDX-License-Identifier: Apache-2.0
"""One model, one caller at a time, none when idle."""

import threading
import time
from pathlib import Path

import pytest
import torch

from da3_core.errors import InputError
from da3_core.options import ModelOptions
from da3_core.web.model_runner import ModelRunner

WAIT_S = 30


def wait_until(condition: object) -> None:
    latest = time.monotonic() + WAIT_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < latest
        time.sleep(0.01)


def test_callers_wait_for_each_other_share_the_model_and_leave_it_to_be_unloaded() -> None:
    runner = ModelRunner(ModelOptions("untrained:da3-small", device="cpu"), idle_seconds=1)
    assert not runner.is_loaded
    seen: list[tuple[int, str]] = []

    def use() -> None:
        with runner.lent() as model:
            seen.append((id(model), "begin"))
            time.sleep(0.05)
            seen.append((id(model), "end"))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert [what for _, what in seen] == ["begin", "end"] * 3
    assert len({model for model, _ in seen}) == 1
    wait_until(lambda: not runner.is_loaded)
    assert runner.state.loaded_at is None
    assert runner.state.preset is not None
    assert runner.state.preset.name == "da3-small"


def test_what_cannot_be_loaded_is_tried_again(tmp_path: Path) -> None:
    runner = ModelRunner(ModelOptions(str(tmp_path), device="cpu"))
    for _ in range(2):
        with pytest.raises(InputError), runner.lent():
            pytest.fail("there is no model")
    assert not runner.is_loaded


def test_a_gpu_that_is_not_there_is_refused_at_once() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match="PyTorch finds 0"):
        ModelRunner(ModelOptions("untrained:da3-giant", device="cuda"))
