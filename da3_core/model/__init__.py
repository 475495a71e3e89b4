# SPDX-License-Identifier: Apache-2.0
"""From a name to a loaded network: presets, weights, device, number format, memory."""
