# SPDX-License-Identifier: Apache-2.0
"""What the networks need of torch and torch does not promise. Checked with torch 2.13.0."""

import torch
from torch import Tensor

_PLAIN = 0  # of torch.nn.attention.SDPBackend: MATH


def writes_all_scores(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether `scaled_dot_product_attention` would take its plain kernel, which holds the T x T scores of every head.

    The public ways forbid kernels; none says which one would be taken.
    """
    return bool(torch._fused_sdp_choice(query, key, value) == _PLAIN)


def version_of(tensor: Tensor) -> int:
    """A number that changes with every change in place, where torch counts them: not in inference mode.

    Nothing public tells that weights were loaded into a tensor since something was computed from it.
    """
    return 0 if tensor.is_inference() else tensor._version
