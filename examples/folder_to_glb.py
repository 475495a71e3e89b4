# SPDX-License-Identifier: Apache-2.0
"""A folder of overlapping images to a cloud for viewers: `python examples/folder_to_glb.py images/ out/`."""

import sys
from pathlib import Path

from da3_core import DepthAnything3

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
model_name = sys.argv[3] if len(sys.argv) > 3 else "auto"

images = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
model = DepthAnything3.from_pretrained(model_name, device="auto")
prediction = model.inference(images, export_dir=out, export_format="glb-html", num_max_points=200_000)

for image, placed in zip(images, prediction.placed, strict=True):
    print(f"{image.name}: {'placed' if placed else 'could not be placed'}")
print(f"{out / 'scene.glb'} for viewers, {out / 'scene.html'} for any browser")
