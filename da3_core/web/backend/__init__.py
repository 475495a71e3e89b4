# SPDX-License-Identifier: Apache-2.0
"""The model as a service: one process keeps it in memory and works for others over HTTP."""
