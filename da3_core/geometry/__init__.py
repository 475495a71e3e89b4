# SPDX-License-Identifier: Apache-2.0
"""Cameras, similarity transforms, back-projection, poses from features: NumPy in float64, no network, no files."""
