# SPDX-License-Identifier: Apache-2.0
"""How files are written, where they may lie, and what may be deleted."""
