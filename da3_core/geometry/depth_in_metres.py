# SPDX-License-Identifier: Apache-2.0
"""Depth that knows that it is in metres, for callers of the library who know the usage guide by heart."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

METRES_AT_FOCAL = 300  # pixels; metric networks predict metres for a camera of this focal length


class DepthInMetres(np.ndarray):
    """Depth that is in metres already, which the usage guide's `focal * depth / 300.0` for raw depth leaves as it is.

    With the focal length of a view of the same prediction, and 300, that product says how raw depth becomes metres. All
    else is the arithmetic of any array, and its results are plain ones.

    Attributes:
        focal_lengths: `(N,)` the mean of fx and fy of every view.
    """

    focal_lengths: np.ndarray = np.empty(0)

    @classmethod
    def of(cls, depth_m: np.ndarray, intrinsics: np.ndarray) -> DepthInMetres:
        """A view of `depth_m`, with `(N, 3, 3)` intrinsics."""
        result = depth_m.view(cls)
        result.focal_lengths = intrinsics[:, [0, 1], [0, 1]].astype(np.float64).mean(axis=1)
        return result

    def __array_finalize__(self, source: np.ndarray | None) -> None:
        self.focal_lengths = getattr(source, "focal_lengths", self.focal_lengths)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        plain = [np.asarray(each) if isinstance(each, DepthInMetres) else each for each in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(each) if isinstance(each, DepthInMetres) else each for each in out)
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.multiply and method == "__call__" and out is None:
            factor = inputs[0] if isinstance(inputs[1], DepthInMetres) else inputs[1]
            if np.ndim(factor) == 0 and np.isclose(self.focal_lengths, factor, rtol=1e-5).any():
                return _TimesFocal.of(result, self)
        return result


class _TimesFocal(np.ndarray):
    """The product of depth in metres and a focal length, of which 300 makes that depth again."""

    depth_m: np.ndarray

    @classmethod
    def of(cls, product: np.ndarray, depth_m: np.ndarray) -> _TimesFocal:
        result = product.view(cls)
        result.depth_m = depth_m
        return result

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        divides = ufunc is np.true_divide and method == "__call__" and out is None and inputs[0] is self
        if divides and np.ndim(inputs[1]) == 0 and inputs[1] == METRES_AT_FOCAL and hasattr(self, "depth_m"):
            logger.warning("depth is in metres already, so focal * depth / 300 leaves it as it is")
            return self.depth_m
        plain = [np.asarray(each) if isinstance(each, _TimesFocal) else each for each in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(each) if isinstance(each, _TimesFocal) else each for each in out)
        return getattr(ufunc, method)(*plain, **options)
