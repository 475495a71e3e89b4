# SPDX-License-Identifier: Apache-2.0
"""File formats that several wings read or write, and nothing of what is put into them."""
