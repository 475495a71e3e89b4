# SPDX-License-Identifier: Apache-2.0
"""`DepthAnything3` and what its `inference` returns."""

from da3_core.api import DepthAnything3
from da3_core.prediction import Gaussians, Prediction

__all__ = ["DepthAnything3", "Gaussians", "Prediction"]
