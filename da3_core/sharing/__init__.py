# SPDX-License-Identifier: Apache-2.0
"""One model for several processes of a user: a process that holds it, and what stands for the model in the others."""
