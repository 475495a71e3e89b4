# SPDX-License-Identifier: Apache-2.0
"""In which number format a device runs the backbone best without losing what matters."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError
from da3_core.options import Precision
from da3_core.storage.files import user_cache
from da3_core.storage.staging import write_atomically

if TYPE_CHECKING:
    import torch

MIN_GAIN = 1.5  # of a product in bfloat16 over one in float32, from which the whole backbone gains enough
_SIDE, _TURNS = 256, 40  # so short that some turns are not interrupted
_log = logging.getLogger(__name__)


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type for `torch.autocast`, or None for plain float32.

    `auto` takes bfloat16 where the hardware multiplies it faster: CUDA from compute capability 8.0, and CPUs where
    `bfloat16_gain` finds it.

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


def describe(precision: Precision, device: torch.device) -> str:
    """What a precision means on a device, and why, for people."""
    dtype = autocast_dtype(precision, device)
    name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if precision == "auto" and device.type == "cpu":
        return f"{name}, since products in bfloat16 take {1 / bfloat16_gain():.2f} of the time of float32"
    return name


@cache
def bfloat16_gain() -> float:
    """How many times as fast as in float32 this CPU multiplies in bfloat16, by two small products timed once.

    A flag of the CPU does not tell: some have the instructions and are slower by them. What was found is kept in the
    user's cache, so that a loaded machine does not decide otherwise at the next start.
    """
    import torch

    about = repr((_processor(), torch.__version__, torch.get_num_threads()))
    note = user_cache() / f"bfloat16-{hashlib.sha256(about.encode()).hexdigest()[:16]}"
    try:
        if note.stat().st_uid == os.geteuid():
            return float(note.read_text())
    except (OSError, ValueError):
        pass
    gain = _measured_gain()
    try:
        write_atomically(note, f"{gain:.3f}".encode())
    except OSError as error:
        _log.debug("what bfloat16 gains is measured at every start: %s", error)
    return gain


def _measured_gain() -> float:
    """The fastest of some turns each, so that other programs matter little."""
    import torch

    formats = (torch.float32, torch.bfloat16)
    fastest = dict.fromkeys(formats, math.inf)
    with torch.inference_mode():
        factors = {
            dtype: (torch.ones(_SIDE, _SIDE, dtype=dtype), torch.ones(_SIDE, _SIDE, dtype=dtype)) for dtype in formats
        }
        for turn in range(_TURNS):
            for dtype in formats:
                start = time.perf_counter()
                torch.nn.functional.linear(*factors[dtype])
                if turn:  # the first one prepares
                    fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    return fastest[torch.float32] / fastest[torch.bfloat16]


def _multiplies_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bfloat16_gain() >= MIN_GAIN


def _processor() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
