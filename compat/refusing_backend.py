# SPDX-License-Identifier: Apache-2.0
"""setuptools, which refuses to build where the official package is installed: both bring a module of the same name."""

import sysconfig
from importlib.metadata import distributions
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # every other hook is that of setuptools

OFFICIAL = "depth-anything-3"


def build_wheel(*arguments: Any, **settings: Any) -> str:
    _refuse()
    return str(build_meta.build_wheel(*arguments, **settings))


def build_editable(*arguments: Any, **settings: Any) -> str:
    _refuse()
    return str(build_meta.build_editable(*arguments, **settings))


def _refuse() -> None:
    """pip builds apart from what is installed, but for the same environment, whose folders it does not hide."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    for found in distributions(path=folders):
        if str(found.metadata["Name"]).lower().replace("_", "-") == OFFICIAL:
            raise SystemExit(
                f"{OFFICIAL} {found.version} is installed here and brings the same module depth_anything_3: "
                "uninstall it first, or leave da3_ros_compat out"
            )
