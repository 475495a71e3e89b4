# SPDX-License-Identifier: Apache-2.0
"""The name of the official package, for programs that import it; what it does is done by `da3_core`."""

from importlib.metadata import PackageNotFoundError, version

try:
    _official = version("depth-anything-3")
except PackageNotFoundError:
    pass
else:
    raise ImportError(
        f"depth-anything-3 {_official} and da3_ros_compat both bring the module depth_anything_3: "
        "uninstall one of them, and install the other again"
    )
