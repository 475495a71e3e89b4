# SPDX-License-Identifier: Apache-2.0
"""`python estimate_k_matrix.py --image photo.jpg --output K.txt` is `da3 intrinsics` with the same options."""

import sys

from da3_core.cli import app

if __name__ == "__main__":
    app(["intrinsics", *sys.argv[1:]], prog_name="estimate_k_matrix.py")
