# SPDX-License-Identifier: Apache-2.0
"""The camera matrix of a photograph: `python examples/photo_to_k.py photo.jpg`."""

import sys

import numpy as np

from da3_core import DepthAnything3

photo, model_name = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "auto"

model = DepthAnything3.from_pretrained(model_name, device="auto")
prediction = model.inference([photo])
# `prediction.intrinsics` is about the resized image that the network saw; this one is about the photograph.
matrix = prediction.original_intrinsics()[0]

np.savetxt("K.txt", matrix, fmt="%.6f")
height, width = prediction.original_sizes[0]
print(f"{photo}, {width} x {height} pixels, focal length {matrix[0, 0]:.1f} pixels: K.txt")
