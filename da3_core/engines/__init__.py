# SPDX-License-Identifier: Apache-2.0
"""The runtimes that execute a network. `torch` is the reference; the others are twins of it, compared by tests.

A network has three heavy steps: `embed`, the blocks in which every view is alone; `join`, the blocks in which views
meet; `decode`, a dense head on one view. An engine converts each of them for the shapes it sees and puts what it made
in the place of the torch code (`steps`); everything between the steps stays torch: the choice of the reference view,
the camera head, sky and scale.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from da3_core.engines.compiled_steps import EngineState
    from da3_core.engines.runtime import Runtime

_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
_PROVIDER_DEVICES = {"": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
_MEASURED_CPUS = ("x86_64", "AMD64")  # where OpenVINO was found to be the fastest


def choose_engine(engine: str, device: torch.device) -> str:
    """The given engine, or the one that `auto` stands for: the fastest of those installed.

    That is OpenVINO on CPUs of PCs, in every measurement of `benchmarks/`, and torch elsewhere.

    Args:
        engine: as of `options.ModelOptions`.
        device: where the model is.

    Raises:
        InputError: its package is missing, or it does not run on that device.
    """
    name, _, provider = engine.partition(":")
    if name == "auto":
        is_pc = device.type == "cpu" and platform.machine() in _MEASURED_CPUS
        return "openvino" if is_pc and is_installed("openvino") else "torch"
    if name == "torch":
        return "torch"
    if not is_installed(name):
        raise InputError(f'engine {name} is not installed: pip install "da3_ros[{_EXTRAS[name]}]", or use torch')
    if device.type != _PROVIDER_DEVICES[provider]:
        raise InputError(f"engine {engine} does not run on {device.type}: choose another engine, or another device")
    return engine


def is_installed(package: str) -> bool:
    return find_spec(package) is not None


def run_on_engine(
    network: nn.Module,
    engine: str,
    precision: str,
    cache: Path,
    *,
    weights: Path | None = None,
    is_auto: bool = False,
    taken_over: Callable[[nn.Module], None] = lambda part: None,
) -> EngineState:
    """Let an engine other than torch execute the heavy steps of a network.

    Args:
        network: of `network.build_network`, with its weights.
        engine: from `choose_engine`.
        precision: `float32` or `bfloat16`, of the backbone.
        cache: folder of converted steps.
        weights: the file that they are from, if there is one.
        is_auto: nobody asked for this very engine. What is not in the cache is then executed by torch until a
            conversion pays, and for good where it fails.
        taken_over: see `EngineState`.

    Raises:
        InputError: the installed package lacks what the engine needs.
    """
    from da3_core.engines.compiled_steps import PATIENCE_S, EngineState, file_digest, weights_digest
    from da3_core.engines.steps import run_on

    state = EngineState(
        make_runtime(engine, precision),
        weights_digest(network) if weights is None else file_digest(weights, cache),
        cache,
        patience_s=PATIENCE_S if is_auto else 0.0,
        may_fail=is_auto,
        taken_over=taken_over,
    )
    run_on(network, state)
    return state


def make_runtime(engine: str, precision: str) -> Runtime:
    """The runtime of an engine other than torch, from `choose_engine`.

    Raises:
        InputError: its package cannot be imported, or lacks what the engine needs.
    """
    name, _, provider = engine.partition(":")
    try:
        if name == "openvino":
            from da3_core.engines.openvino_runtime import OpenVinoRuntime

            return OpenVinoRuntime(precision)
        from da3_core.engines.onnx_runtime import OnnxRuntime
    except ImportError as error:
        raise InputError(f"engine {name} is installed, but broken ({error}): install it again, or use torch") from error
    return OnnxRuntime(provider or "cpu", precision)
