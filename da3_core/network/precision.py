# SPDX-License-Identifier: Apache-2.0
"""Where low precision stops: only the backbone follows the caller's autocast."""

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """A context without autocast on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)
