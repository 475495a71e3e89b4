# SPDX-License-Identifier: Apache-2.0
"""`pip install .` gives the library `da3_core` and the command `da3`; the metadata is in pyproject.toml.

The ROS side (messages, nodes) is built by colcon from CMakeLists.txt and package.xml.
"""

from setuptools import setup

setup()
