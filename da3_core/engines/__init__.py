# SPDX-License-Identifier: Apache-2.0
"""The runtimes that execute a network. `torch` is the reference; the others are twins of it, compared by tests.

A network has three heavy steps: `embed`, the blocks in which every view is alone; `join`, the blocks in which views
meet; `decode`, a dense head on one view. An engine converts each of them for the shapes it sees and puts what it made
in the place of the torch code (`steps`); everything between the steps stays torch: the choice of the reference view,
the camera head, sky and scale.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from da3_core.engines.runtime import Runtime

_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}
_PROVIDER_DEVICES = {"": "cpu", "cuda": "cuda", "tensorrt": "cuda"}


def choose_engine(engine: str, device: torch.device) -> str:
    """The engine that `auto` stands for, which is torch, or the given one.

    Args:
        engine: as of `options.ModelOptions`.
        device: where the model is.

    Raises:
        InputError: its package is missing, or it does not run on that device.
    """
    name, _, provider = engine.partition(":")
    if name in ("auto", "torch"):
        return "torch"
    if not is_installed(name):
        raise InputError(f'engine {name} is not installed: pip install "da3_ros[{_EXTRAS[name]}]", or use torch')
    if device.type != _PROVIDER_DEVICES[provider]:
        raise InputError(f"engine {engine} does not run on {device.type}: choose another engine, or another device")
    return engine


def is_installed(package: str) -> bool:
    return find_spec(package) is not None


def run_on_engine(network: nn.Module, engine: str, precision: str, cache: Path) -> None:
    """Let an engine other than torch execute the heavy steps of a network.

    Args:
        network: of `network.build_network`, with its weights.
        engine: from `choose_engine`.
        precision: `float32` or `bfloat16`, of the backbone.
        cache: folder of converted steps.

    Raises:
        InputError: the installed package lacks what the engine needs.
    """
    from da3_core.engines.compiled_steps import CompiledSteps, weights_digest
    from da3_core.engines.steps import run_on

    run_on(network, CompiledSteps(make_runtime(engine, precision), weights_digest(network), cache))


def make_runtime(engine: str, precision: str) -> Runtime:
    """The runtime of an engine other than torch, from `choose_engine`."""
    name, _, provider = engine.partition(":")
    if name == "openvino":
        from da3_core.engines.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(precision)
    from da3_core.engines.onnx_runtime import OnnxRuntime

    return OnnxRuntime(provider or "cpu", precision)
