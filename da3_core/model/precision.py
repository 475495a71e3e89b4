# SPDX-License-Identifier: Apache-2.0
"""In which number format a device runs the backbone best without losing what matters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError
from da3_core.options import Precision

if TYPE_CHECKING:
    import torch


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type for `torch.autocast`, or None for plain float32.

    `auto` takes bfloat16 where the hardware multiplies it natively: CUDA from compute capability 8.0, CPUs with AMX.

    Raises:
        InputError: float16 on a CPU.
    """
    import torch

    if precision == "float16":
        if device.type == "cpu":
            raise InputError("precision float16 is not offered on a CPU; use float32, bfloat16 or auto")
        return torch.float16
    if precision == "bfloat16" or (precision == "auto" and _multiplies_bfloat16(device)):
        return torch.bfloat16
    return None


def _multiplies_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    cpu_flags = Path("/proc/cpuinfo")
    return device.type == "cpu" and cpu_flags.exists() and "amx_bf16" in cpu_flags.read_text()
