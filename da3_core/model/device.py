# SPDX-License-Identifier: Apache-2.0
"""Which device a model runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from da3_core.errors import InputError

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else Apple's MPS, else the CPU.

    Raises:
        InputError: no such kind of device, or this machine has none.
    """
    import torch

    found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind, count in found.items() if count))
    kind, _, index = name.partition(":")
    if kind not in found or not (index.isdecimal() or name == kind):
        raise InputError(f"device {name!r} is not known: use auto, cpu, cuda, cuda:N or mps")
    if int(index or 0) >= found[kind]:
        raise InputError(f"device {name!r} is asked for, but PyTorch finds {found[kind]} of its kind: use auto or cpu")
    return torch.device(name)
