# SPDX-License-Identifier: Apache-2.0
"""Make the small golden files beside this script from full ones.

    python tests/data/compact_goldens.py FULL_GOLDENS FULL_MANIFESTS

Results of a network stay whole. Bulky intermediates keep every so many-th entry; the steps along each axis are stored
as `<name>__step`, so that a test takes the same entries of what it computed. Unit files are copied.
"""

import gzip
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent

STEPS = {
    r"(tokens_embed|block_\d+|head_in_\d)": (1, 1, 9, 1),
    r"aux_feat_layer_\d+": (1, 1, 3, 3, 1),
    r"head_(stage_\d|fused|neck|aux_neck)": (1, 1, 3, 3),
    r"ray": (1, 1, 3, 3, 1),
    r"ray_conf": (1, 1, 3, 3),
    r"gs_harmonics": (1, 7, 1, 1),
    r"(metric_sky|metric_head_depth|anyview_depth|anyview_conf|head_depth)": (1, 1, 3, 3),
}
WHOLE = {"small_v2_196x252_raypose": {"ray", "ray_conf"}}  # what the ray solver is run on
KEPT = ("preset", "weights_seed", "image_seeds", "views", "height", "width", "forward", "images_sha256")


def compact(case: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    small = {}
    for name, array in arrays.items():
        step = next((steps for pattern, steps in STEPS.items() if re.fullmatch(pattern, name)), None)
        if step is None or name in WHOLE.get(case, ()):
            small[name] = array
        else:
            small[name] = array[tuple(slice(None, None, s) for s in step)]
            small[f"{name}__step"] = np.array(step)
    return small


def main(goldens: Path, manifests: Path) -> None:
    cases = {}
    for path in sorted(goldens.glob("*.npz")):
        if path.stem.startswith("unit_"):
            shutil.copyfile(path, HERE / "golden" / path.name)
            continue
        described = json.loads(path.with_suffix(".json").read_text())
        cases[path.stem] = {key: described[key] for key in KEPT}
        np.savez_compressed(HERE / "golden" / path.name, **compact(path.stem, dict(np.load(path))))
    (HERE / "golden" / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    for path in sorted(manifests.glob("*.tsv")):
        with gzip.GzipFile(HERE / "manifest" / f"{path.name}.gz", "wb", mtime=0) as file:
            file.write(path.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
