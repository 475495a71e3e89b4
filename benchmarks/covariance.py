# SPDX-License-Identifier: Apache-2.0
"""Whether the covariance of odometry is true: the share of errors, by axis, within one stated deviation.

`python benchmarks/covariance.py [--out FILE.json]`: the models of `streams.py` in two worlds with three seeds each, and
the embedded model on walks through the synthetic room, which takes minutes. 68 % is what normal errors have.
"""

import numpy as np
import report
from stream_lab.covariance import stated
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.runs import make_frames
from stream_lab.worlds import walk

from da3_core import DepthAnything3
from da3_core.options import InferenceOptions
from da3_core.stream.frame import Frame
from da3_core.stream.inference import bind_inference
from da3_core.synthetic import room_walk

WALKS = {"hall": walk("hall", 120, 0.08, seed=7), "street": walk("street", 120, 0.15, seed=8)}
MODELS, SEEDS, WINDOWS = ("exact", "real", "cameras", "soft"), (31, 32, 33), ((4, 1), (4, 2), (8, 4))
ROOM_WALKS = ((60, 0, 4, 1), (60, 3, 4, 2), (24, 5, 4, 1), (60, 7, 6, 2))  # frames, seed, window


def main() -> None:
    arguments = report.arguments(__doc__, repeats=1)
    rows = []
    print("| model | world | window | positions, % | rotations, % |\n|---|---|---|---|---|")

    def tell(model: str, world: str, window: tuple[int, int], within: np.ndarray) -> None:
        rows.append({"model": model, "world": world, "window": window, "within": within.tolist()})
        print(
            f"| {model} | {world} | {window[0]}/{window[1]} | {100 * within[0]:.0f} | {100 * within[1]:.0f} |",
            flush=True,
        )

    for name, world in WALKS.items():
        for case in MODELS:
            for window in WINDOWS:
                runs = [
                    stated(DisturbedModel(world, CASES[case], seed), make_frames(120), world.camera_to_world, *window)
                    for seed in SEEDS
                ]
                tell(case, name, window, np.mean([run.within() for run in runs], axis=0))
    infer = bind_inference(DepthAnything3.from_pretrained("embedded", device="cpu"), InferenceOptions())
    for count, seed, size, stride in ROOM_WALKS:
        room = room_walk(count, (168, 224), seed=seed)
        frames = [Frame(image, stamp_ns=i) for i, image in enumerate(room.images)]
        run = stated(infer, frames, room.camera_to_world, size, stride)
        tell("embedded", f"room, {count} images", (size, stride), np.array(run.within()))
    report.publish("covariance", arguments.out, rows=rows)


if __name__ == "__main__":
    main()
