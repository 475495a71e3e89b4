# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a synthetic camera and the live node as separate processes, recorded and drawn."""
