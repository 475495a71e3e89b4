# SPDX-License-Identifier: Apache-2.0
"""Cameras, similarity transforms and back-projection: plain NumPy in float64 and OpenCV for features, no network, no files."""
