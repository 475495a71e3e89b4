# SPDX-License-Identifier: Apache-2.0
"""What the embedded model gains from several views: error of depth of four views together, beside each by itself.

`python benchmarks/several_views.py [--out FILE.json] [--repeats 12]`: as many synthetic rooms, four views on the way
around each, with and without `refine_depth`, with the camera matrix known and not. AbsRel after one median scale: of
every view by itself, or of the scene, which is the harder of both.
"""

from itertools import product

import numpy as np
import report

from da3_core import DepthAnything3
from da3_core.synthetic import Walk, room_walk

VIEWS, EVERY = 4, 3
APART_DEG = {22: 48, 45: 24}  # between neighbouring views, with so many frames around the room
SIZE = (240, 320)
FIRST_SEED = 100


def abs_rel(depth: np.ndarray, true_m: np.ndarray) -> float:
    """After one median scale of `(N, H, W)` depth."""
    rows, columns = (np.arange(n) * t // n for n, t in zip(depth.shape[1:], true_m.shape[1:], strict=True))
    truth = true_m[:, rows][:, :, columns]
    seen = np.isfinite(depth) & (truth > 0)
    scaled = depth[seen] * np.median(truth[seen]) / np.median(depth[seen])
    return float(np.mean(np.abs(scaled - truth[seen]) / truth[seen]))


def errors(model: DepthAnything3, walk: Walk, first: int, *, known: bool) -> dict[str, float]:
    """By way, of four views from a frame on."""
    chosen = first + EVERY * np.arange(VIEWS)
    images, truth = list(walk.images[chosen]), walk.depth_m[chosen]
    cameras = {"intrinsics": np.repeat(walk.intrinsics[None], VIEWS, axis=0)} if known else {}
    one = {name: given[:1] for name, given in cameras.items()}
    singles = [abs_rel(model.inference([each], **one).depth, truth[i : i + 1]) for i, each in enumerate(images)]
    found = {"each alone": float(np.mean(singles))}
    for refine in ("no", "yes"):
        prediction = model.inference(images, **cameras, refine_depth=refine)
        found[f"four, refine_depth {refine}"] = abs_rel(prediction.depth, truth)
        by_view = [abs_rel(prediction.depth[i : i + 1], truth[i : i + 1]) for i in range(VIEWS)]
        found[f"four, refine_depth {refine}, a scale each"] = float(np.mean(by_view))
    return found


def main() -> None:
    arguments = report.arguments(__doc__, repeats=12)
    model = DepthAnything3.from_pretrained("embedded", device="cpu")
    rows = []
    print("| apart, degrees | camera matrix | way | AbsRel | of each alone |\n|---|---|---|---|---|")
    for (apart_deg, frames), known in product(APART_DEG.items(), (True, False)):
        found = [
            errors(model, room_walk(frames, SIZE, seed=FIRST_SEED + i), 2 * i % (frames - EVERY * VIEWS), known=known)
            for i in range(arguments.repeats)
        ]
        means = {way: float(np.mean([each[way] for each in found])) for way in found[0]}
        for way, value in means.items():
            ratio = value / means["each alone"]
            rows.append({"apart_deg": apart_deg, "known": known, "way": way, "abs_rel": value, "ratio": ratio})
            matrix = "known" if known else "estimated"
            print(f"| {apart_deg} | {matrix} | {way} | {value:.3f} | {ratio:.2f} |", flush=True)
    report.publish("several_views", arguments.out, rows=rows)


if __name__ == "__main__":
    main()
