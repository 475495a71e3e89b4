# SPDX-License-Identifier: Apache-2.0
"""Depth Anything 3 as a ROS 2 node.

The generated `da3_ros.msg` lies beside the hand-written modules once installed; `extend_path` lets both be seen from
a checkout. rosidl may install an empty file in place of this one, so nothing may be read from here.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
