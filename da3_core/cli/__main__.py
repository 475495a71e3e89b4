# SPDX-License-Identifier: Apache-2.0
"""`python -m da3_core.cli` is `da3`."""

from da3_core.cli import main

main()
