# SPDX-License-Identifier: Apache-2.0
"""A stream of frames becomes one map: windows, their placement, and the record of what was seen."""
