# SPDX-License-Identifier: Apache-2.0
"""How many views a model can take at once: what it needs, what the device has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from da3_core.network.config import PATCH_SIZE, NestedConfig

if TYPE_CHECKING:
    import torch

    from da3_core.presets import Preset

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
    network = preset.network
    parts = (network.any_view, network.metric) if isinstance(network, NestedConfig) else (network,)
    tokens = pixels / PATCH_SIZE**2
    view_bytes = sum(tokens * part.backbone.width * 4 * TOKEN_COPIES + pixels * PIXEL_BYTES for part in parts)
    head_bytes = max(pixels * part.head.features * HEAD_BYTES * HEAD_VIEWS for part in parts)
    return max(1, int((free * USABLE_SHARE - head_bytes) / view_bytes))


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
