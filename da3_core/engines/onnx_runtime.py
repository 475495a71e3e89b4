# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime (MIT): on CPUs, and with its CUDA and TensorRT providers on GPUs and Jetson."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from da3_core.engines.runtime import VIEWS_AXIS, Compiled
from da3_core.errors import InputError

OPSET = 17
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_log = logging.getLogger(__name__)


class OnnxRuntime:
    """See `Runtime`. A file is an ONNX model; TensorRT builds its engine from it and keeps that beside it."""

    name = "onnxruntime"
    version = str(onnxruntime.__version__)

    def __init__(self, provider: str, precision: str) -> None:
        """
        Raises:
            InputError: this installation of onnxruntime does not have the provider.
        """
        self.precision, self.device = precision, provider
        available = onnxruntime.get_available_providers()
        if _PROVIDERS[provider] not in available:
            raise InputError(
                f"onnxruntime here has no {_PROVIDERS[provider]}, only {', '.join(available)}: "
                "install onnxruntime-gpu, or use engine onnxruntime:cpu"
            )

    def build(
        self, step: nn.Module, example: tuple[Tensor, ...], path: Path, precision: str, *, any_views: bool
    ) -> None:
        names: dict[str, Any] = {}
        if any_views:
            with torch.no_grad():
                outputs = [f"output_{i}" for i in range(len(step(*example)))]
            names = {"input_names": ["tokens"], "output_names": outputs}
            names["dynamic_axes"] = {name: {VIEWS_AXIS: "views"} for name in ("tokens", *outputs)}
        export_step(step, example, path, **names)

    def load(self, path: Path, precision: str) -> Compiled:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=self._providers(path.parent))
        names = [each.name for each in session.get_inputs()]

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            arrays = (part.detach().float().contiguous().cpu().numpy() for part in inputs)
            return tuple(map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True)))))

        return run

    def _providers(self, folder: Path) -> list[Any]:
        if self.device == "tensorrt":
            options = {
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(folder),
                "trt_fp16_enable": self.precision != "float32",
            }
            return [(_PROVIDERS["tensorrt"], options), _PROVIDERS["cuda"], _PROVIDERS["cpu"]]
        return list(dict.fromkeys((_PROVIDERS[self.device], _PROVIDERS["cpu"])))


def export_step(step: nn.Module, example: tuple[Tensor, ...], path: Path, **options: Any) -> None:
    """Write a module as an ONNX file; `options` are those of `torch.onnx.export`, such as names and dynamic axes."""
    torch.onnx.export(
        step, tuple(part.clone() for part in example), str(path), opset_version=OPSET, dynamo=False, **options
    )
