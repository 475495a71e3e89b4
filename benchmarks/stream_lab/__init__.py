# SPDX-License-Identifier: Apache-2.0
"""Streams of exact worlds with disturbances, other recipes of joining their windows, and the measures of the result."""
