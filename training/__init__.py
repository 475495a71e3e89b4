# SPDX-License-Identifier: Apache-2.0
"""How the weights of `da3-embedded` are made: scenes rendered by the million rays, features cached, heads trained."""
