# SPDX-License-Identifier: Apache-2.0
"""The runtimes that execute a network. `torch` is the reference; the others are twins of it, compared by tests.

A network has three heavy steps: `embed`, the blocks in which every view is alone; `join`, the blocks in which views
meet; `decode`, a dense head on one view. An engine converts each of them for the shapes it sees and puts what it made
in the place of the torch code (`steps`); everything between the steps stays torch: the choice of the reference view,
the camera head, sky and scale.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

from da3_core.errors import InputError

if TYPE_CHECKING:
    import torch

    from da3_core.engines.runtime import Runtime

Provider = Literal["cpu", "cuda", "tensorrt"]
ENGINES = ("auto", "torch", "openvino", "onnxruntime")
_EXTRAS = {"openvino": "openvino", "onnxruntime": "onnx"}


def check_engine(engine: str) -> None:
    """
    Raises:
        InputError: no engine is called so, or onnxruntime has no such provider.
    """
    name, _, provider = engine.partition(":")
    if name not in ENGINES or (provider and (name != "onnxruntime" or provider not in get_args(Provider))):
        raise InputError(
            f"engine is {engine!r}; allowed are {', '.join(ENGINES)}, and onnxruntime:PROVIDER with one of "
            f"{', '.join(get_args(Provider))}"
        )


def choose_engine(engine: str, device: torch.device) -> str:
    """The name of the engine that `auto` stands for, or the given one.

    `auto` is OpenVINO on a CPU where it is installed (about half of the time of torch on the CPUs measured, see
    docs/benchmarks.md), else torch.

    Raises:
        InputError: no such engine, or its package is missing, or it does not run on that device.
    """
    check_engine(engine)
    if engine == "auto":
        return "openvino" if device.type == "cpu" and is_installed("openvino") else "torch"
    name = engine.partition(":")[0]
    if name != "torch" and not is_installed(name):
        raise InputError(f'engine {name} is not installed: pip install "da3_ros[{_EXTRAS[name]}]", or use torch')
    if name == "openvino" and device.type != "cpu":
        raise InputError(f"engine openvino runs on the CPU and the device is {device}: use device cpu, or engine torch")
    return engine


def is_installed(package: str) -> bool:
    return find_spec(package) is not None


def make_runtime(engine: str, precision: str) -> Runtime:
    """The runtime of an engine other than torch, which `choose_engine` has found usable.

    Args:
        engine: `openvino`, `onnxruntime` or `onnxruntime:PROVIDER`.
        precision: `float32` or `bfloat16`, of the backbone.
    """
    name, _, provider = engine.partition(":")
    if name == "openvino":
        from da3_core.engines.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(precision)
    from da3_core.engines.onnx_runtime import OnnxRuntime

    return OnnxRuntime(provider or "cpu", precision)
