# SPDX-License-Identifier: Apache-2.0
"""What the embedded model gains from several views: error of depth of four views together, beside each by itself.

`python benchmarks/several_views.py [--out FILE.json] [--repeats 12]`: as many synthetic rooms, four views of a short
way through each, with and without `refine_depth`, with the camera matrix known and not. AbsRel after one median scale:
of every view by itself, or of the scene, which is the harder of both.
"""

import numpy as np
import report

from da3_core import DepthAnything3
from da3_core.synthetic import Walk, room_walk

FRAMES, VIEWS, EVERY = 24, 4, 3
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
    walks = [room_walk(FRAMES, SIZE, seed=FIRST_SEED + i) for i in range(arguments.repeats)]
    rows = []
    print("| camera matrix | way | AbsRel | of each alone |\n|---|---|---|---|")
    for known in (True, False):
        found = [errors(model, walk, 2 * i % (FRAMES - EVERY * VIEWS), known=known) for i, walk in enumerate(walks)]
        means = {way: float(np.mean([each[way] for each in found])) for way in found[0]}
        for way, value in means.items():
            ratio = value / means["each alone"]
            rows.append({"known": known, "way": way, "abs_rel": value, "ratio": ratio})
            print(f"| {'known' if known else 'estimated'} | {way} | {value:.3f} | {ratio:.2f} |", flush=True)
    report.publish("several_views", arguments.out, rows=rows)


if __name__ == "__main__":
    main()
