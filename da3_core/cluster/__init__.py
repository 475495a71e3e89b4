# SPDX-License-Identifier: Apache-2.0
"""Windows inferred by other processes, on this machine or many, by Ray; what they say is joined here, in order."""
