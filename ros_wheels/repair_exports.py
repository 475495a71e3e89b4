# SPDX-License-Identifier: Apache-2.0
"""Make the ROS 2 wheels of this virtual environment able to build interfaces.

The CMake exports of the message wheels name include folders of the machine that built them. This points them at this
interpreter's headers. Running it again changes nothing.
"""

import re
import sys
import sysconfig
from pathlib import Path

import numpy

PYTHON_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")
NUMPY_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/(?:_core|core)/include")


def main() -> None:
    for export in Path(sys.prefix, "share").glob("*/cmake/*__rosidl_generator_pyExport.cmake"):
        text = export.read_text()
        repaired = PYTHON_INCLUDE.sub(sysconfig.get_path("include"), NUMPY_INCLUDE.sub(numpy.get_include(), text))
        if repaired != text:
            export.write_text(repaired)


if __name__ == "__main__":
    main()
