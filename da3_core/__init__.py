# SPDX-License-Identifier: Apache-2.0
"""Depth Anything 3: any number of views in, depth, confidence, camera poses and intrinsics out.

The public names are imported on first use, so that `import da3_core` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from da3_core.api import DepthAnything3
    from da3_core.errors import InputError
    from da3_core.prediction import Gaussians, Prediction

__version__ = "0.1.0"

_HOME = {
    "DepthAnything3": "da3_core.api",
    "InputError": "da3_core.errors",
    "Gaussians": "da3_core.prediction",
    "Prediction": "da3_core.prediction",
}

__all__ = ["DepthAnything3", "Gaussians", "InputError", "Prediction", "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
