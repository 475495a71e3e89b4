# SPDX-License-Identifier: Apache-2.0
"""How many views a model can take at once: what it needs, what the device has."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.errors import InputError
from da3_core.network.config import PATCH_SIZE, NestedConfig

if TYPE_CHECKING:
    import torch

    from da3_core.model.presets import Preset

# Measured peaks of the networks in float32, rounded up.
TOKEN_COPIES = 24  # activations of a token that are alive at once, in the backbone and kept for the heads
PIXEL_BYTES = 64  # images, depth, confidence and their copies
HEAD_BYTES = 8  # of a dense head, by pixel and feature channel
HEAD_VIEWS = 8  # decoded at once
USABLE_SHARE = 0.6  # of the free memory; the rest is for what is written afterwards, and for other programs

_CGROUP = "/sys/fs/cgroup"  # of a container
_UNKNOWN_BYTES = 8 * 2**30  # taken to be free where the system does not tell


def views_that_fit(preset: Preset, pixels: float, free: int) -> int:
    """How many views one pass can hold, at least 1.

    Args:
        preset: the model.
        pixels: of a processed image.
        free: bytes, from `free_bytes`.
    """
    view_bytes, head_bytes = _needs(preset, pixels)
    return max(1, int((free * USABLE_SHARE - head_bytes) / view_bytes))


def needed_bytes(preset: Preset, pixels: float, views: int, value_bytes: int = 2) -> float:
    """What a pass takes at least: with a backbone in bfloat16, or with numbers of `value_bytes` there. No kernel of
    attention keeps a whole matrix."""
    view_bytes, head_bytes = _needs(preset, pixels, value_bytes)
    return views * view_bytes + min(1, views / HEAD_VIEWS) * head_bytes


def operations(preset: Preset, pixels: float, views: int) -> float:
    """Multiplications of a pass, as a measure of its time: the part of attention that is quadratic in views included.

    Args:
        preset, pixels, views: as `check_memory`.
    """
    network = preset.network
    parts = (network.any_view, network.metric) if isinstance(network, NestedConfig) else (network,)
    tokens = pixels / PATCH_SIZE**2
    total = 0.0
    for part in parts:
        width, depth, joint_from = part.backbone.width, part.backbone.depth, part.backbone.joint_from
        joint = 0 if joint_from is None else (depth - joint_from + 1) // 2  # blocks in which all views meet
        linear = views * tokens * depth * 12 * width**2
        attention = 2 * width * tokens**2 * ((depth - joint) * views + joint * views**2)
        total += linear + attention + views * pixels * part.head.features**2
    return total


def check_memory(preset: Preset, pixels: float, views: int, free: float, place: str = "on the GPU") -> None:
    """Refuse a pass that is sure to run out of memory.

    Args:
        preset, pixels, free: as `views_that_fit`.
        views: of one pass.
        place: of the free bytes.

    Raises:
        InputError: in gigabytes, with the remedies.
    """
    needed = needed_bytes(preset, pixels, views)
    if needed > free:
        raise InputError(
            f"{views} views of {pixels / 1e6:.1f} megapixels need about {needed / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB are free {place}: give fewer views or a smaller process_res, "
            "or end other programs that use it"
        )


def _needs(preset: Preset, pixels: float, value_bytes: int = 4) -> tuple[float, float]:
    """Bytes per view, and bytes of a dense head while it decodes; `value_bytes` of a number in the backbone."""
    network = preset.network
    parts = (network.any_view, network.metric) if isinstance(network, NestedConfig) else (network,)
    tokens = pixels / PATCH_SIZE**2
    view_bytes = sum(tokens * part.backbone.width * value_bytes * TOKEN_COPIES + pixels * PIXEL_BYTES for part in parts)
    head_bytes = max(pixels * part.head.features * HEAD_BYTES * HEAD_VIEWS for part in parts)
    return view_bytes, head_bytes


def free_bytes(device: torch.device) -> int:
    """Memory that a model on that device can still take."""
    if device.type == "cuda":
        import torch

        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    amounts = []
    meminfo, limit, used = map(Path, ("/proc/meminfo", f"{_CGROUP}/memory.max", f"{_CGROUP}/memory.current"))
    if meminfo.exists() and (available := re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())):
        amounts.append(int(available[1]) * 1024)
    if limit.exists() and limit.read_text().strip() != "max":
        amounts.append(int(limit.read_text()) - int(used.read_text()))
    return min(amounts, default=_UNKNOWN_BYTES)


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that a model can still take, and where those are, in words."""

    bytes: int
    place: str

    @classmethod
    def of(cls, device: torch.device) -> FreeMemory:
        return cls(free_bytes(device), "on the GPU" if device.type == "cuda" else "here")


def release_memory() -> None:
    """Give back what an unreferenced model held, on a GPU too, to the system where that is Linux."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than GNU's keeps nothing, or cannot be asked
            ctypes.CDLL(None).malloc_trim(0)
    torch = sys.modules.get("torch")  # not loaded for a model without it
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
