# SPDX-License-Identifier: Apache-2.0
"""One side of `compare_official.py`: runs in either environment, so it needs nothing but NumPy and torch beside it.

`compare_worker.py WHO FOLDER ENGINE PRECISION`; then a line of stdin, `TASK VIEWS KIND`, is a run, a line of stdout its
answer.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

SIZE_HW = (378, 504)
ALIGNMENT_VIEWS = 3  # of a stream, as by default


def answer(**values: Any) -> None:
    print("answer " + json.dumps(values), flush=True)


def main() -> None:
    who, folder, engine, precision = sys.argv[1:]
    start = time.perf_counter()
    if who == "ours":
        from da3_core.api import DepthAnything3

        model: Any = DepthAnything3.from_pretrained(folder, device="cpu", engine=engine, precision=precision)  # type: ignore[arg-type]
    else:
        from depth_anything_3.api import DepthAnything3 as Official

        model = Official.from_pretrained(folder).to("cpu")
    answer(seconds=time.perf_counter() - start)
    bound: dict[tuple[str, str], dict[str, Callable[[], object]]] = {}
    for line in sys.stdin:
        task, *rest = line.split()
        if task == "memory":
            answer(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        elif task == "engine":
            answer(engine=getattr(model, "engine_status", "official"))
        else:
            views, kind = rest
            if (task, views) not in bound:
                bound[task, views] = bind(model, who, task, int(views))
            start = time.perf_counter()
            try:
                bound[task, views][kind]()
            except Exception as error:  # of a package that may take other arguments in another version
                answer(error=f"{type(error).__name__}: {error}")
            else:
                answer(seconds=time.perf_counter() - start)


def bind(model: Any, who: str, task: str, views: int) -> dict[str, Callable[[], object]]:
    """What is timed, by kind."""
    import numpy as np
    import torch

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (64, SIZE_HW[0] // 14, SIZE_HW[1] // 14, 3), np.uint8)
    images = [np.kron(image, np.ones((14, 14, 1), np.uint8)) for image in coarse]
    tensor = torch.randn(1, views, 3, *SIZE_HW, generator=torch.Generator().manual_seed(0))

    def bare() -> None:
        with torch.inference_mode():
            model.model(tensor)

    if task == "rays":
        return {"api": lambda: model.inference(images[:views], use_ray_pose=True)}
    if task == "export":

        def export() -> None:
            with tempfile.TemporaryDirectory() as out:
                model.inference(images[:views], export_dir=out, export_format="glb")

        return {"api": export}
    if task == "stream" and who == "ours":
        return stream(model, images, views)
    return {"api": lambda: model.inference(images[:views]), "bare": bare}


def stream(model: Any, images: list[Any], views: int) -> dict[str, Callable[[], object]]:
    """The next window of a stream, one new frame each: with all around the network, and the network alone."""
    import torch

    from da3_core.network.kept_views import KeptViews
    from da3_core.options import InferenceOptions
    from da3_core.stream.frame import Frame
    from da3_core.stream.inference import bind_inference, decoded_views

    frames = [Frame(image, stamp_ns=i) for i, image in enumerate(images)]
    infer = bind_inference(model, InferenceOptions())
    decoded = decoded_views(frames[:views], range(views - 1), ALIGNMENT_VIEWS)
    kept = KeptViews()
    tensors = torch.randn(len(images), 3, *SIZE_HW, generator=torch.Generator().manual_seed(0))
    at = {"api": 0, "bare": 0}

    def window(kind: str) -> list[int]:
        at[kind] += 1
        return [(at[kind] + i) % len(images) for i in range(views)]

    def bare() -> None:
        chosen = window("bare")
        with torch.inference_mode():
            model.model(tensors[None, chosen], known=kept.known(chosen), decoded=decoded)

    infer([frames[i] for i in range(views)])
    with torch.inference_mode():
        model.model(tensors[None, :views], known=kept.known(range(views)))
    return {"api": lambda: infer([frames[i] for i in window("api")], decoded), "bare": bare}


if __name__ == "__main__":
    main()
