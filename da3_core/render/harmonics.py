# SPDX-License-Identifier: Apache-2.0
"""Real spherical harmonics of degree 0 to 2, in the order and with the signs of 3-D Gaussian splatting."""

import torch
from torch import Tensor

_DEGREE_0 = 0.28209479177387814  # sqrt(1 / 4π)
_DEGREE_1 = 0.4886025119029199  # sqrt(3 / 4π)
_DEGREE_2 = (
    1.0925484305920792,
    0.31539156525252005,
    0.5462742152960396,
)  # sqrt(15 / 4π), sqrt(5 / 16π), sqrt(15 / 16π)


def basis(directions: Tensor, count: int) -> Tensor:
    """`(G, count)` values of the first 1, 4 or 9 harmonics at `directions` `(G, 3)` of any length but 0."""
    x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
    values = [torch.full_like(x, _DEGREE_0)]
    if count > 1:
        values += [-_DEGREE_1 * y, _DEGREE_1 * z, -_DEGREE_1 * x]
    if count > 4:
        a, b, c = _DEGREE_2
        values += [a * x * y, -a * y * z, b * (2 * z * z - x * x - y * y), -a * x * z, c * (x * x - y * y)]
    return torch.stack(values, -1)


def view_dependent_colors(harmonics: Tensor, directions: Tensor) -> Tensor:
    """`(G, 3)` colours, not negative, of `(G, d, 3)` coefficients seen along `directions` `(G, 3)`."""
    values = basis(directions, harmonics.shape[1])
    return (torch.einsum("gd,gdc->gc", values, harmonics) + 0.5).clamp(min=0)
