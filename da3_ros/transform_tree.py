# SPDX-License-Identifier: Apache-2.0
"""The tree of transforms, as the node uses it; bags are processed with the same one."""

from da3_core.transform_tree import TransformTree as TransformTree
from da3_core.transform_tree import TransformUnknown as TransformUnknown
