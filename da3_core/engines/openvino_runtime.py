# SPDX-License-Identifier: Apache-2.0
"""OpenVINO (Apache-2.0) on the CPU: about twice as fast as torch on the CPUs that were measured."""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from da3_core.engines.runtime import VIEWS_AXIS, Compiled, go_on

LOOK_MS = 100  # between two looks whether an inference is still wanted
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoRuntime:
    """See `Runtime`. A file is a compiled blob of OpenVINO."""

    name, device = "openvino", "CPU"
    version = str(openvino.__version__)

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._core = openvino.Core()

    def build(
        self, step: nn.Module, example: tuple[Tensor, ...], path: Path, precision: str, *, any_views: bool
    ) -> None:
        shapes = [list(part.shape) for part in example]
        if any_views:
            shapes[0][VIEWS_AXIS] = -1
        # Traced here, because OpenVINO would run the step several times to check itself.
        traced = torch.jit.trace(step, example, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        # Nor by `openvino.convert_model`, which reports to its makers that it was called.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=example)
        model = frontend.convert(frontend.load(decoder))
        model.reshape(dict(enumerate(shapes)))
        compiled = self._core.compile_model(model, self.device, self._config(precision))
        path.write_bytes(compiled.export_model().getbuffer())

    def load(self, path: Path, precision: str) -> Compiled:
        return _Loaded(self._core, path, self.device, self._config(precision))

    @staticmethod
    def _config(precision: str) -> dict[str, Any]:
        """Without the hint OpenVINO takes bfloat16 wherever the CPU has instructions for it."""
        return {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }


class _Loaded:
    """A compiled step; of its weights, those in the order that the CPU likes are in memory, the others in the file."""

    def __init__(self, core: openvino.Core, path: Path, device: str, config: dict[str, Any]) -> None:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # copied if written to, which nobody does
        self._blob = openvino.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True)  # the model does not keep it
        self._model = core.import_model(self._blob, device, config)
        mapped.madvise(mmap.MADV_DONTNEED)  # what is still needed is read again
        self._request = self._model.create_infer_request()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [part.detach().float().contiguous().numpy() for part in inputs]
        self._request.start_async(arrays, share_inputs=True)
        try:
            while not self._request.wait_for(LOOK_MS):
                go_on.get()()
        except BaseException:
            self._request.cancel()
            with suppress(RuntimeError):  # that it was cancelled
                self._request.wait()
            raise
        outputs = range(len(self._model.outputs))
        return tuple(torch.from_numpy(self._request.get_output_tensor(index).data.copy()) for index in outputs)
