# SPDX-License-Identifier: Apache-2.0
"""Everything there is to say about a GPU, in one command of less than eight minutes, from a checkout and wheels alone.

`python benchmarks/gpu.py [--official PYTHON] [--out FILE.json]`: golden cases of the official network on the device in
float32 and bfloat16, gsplat beside its torch twin, predicted beside allocated memory, and windows per second by preset,
size and number of views: plain, with CUDA graphs, with `torch.compile`, through TensorRT where onnxruntime has it, and
the official network where PYTHON is an interpreter that has it. What does not fit into `--seconds` is left out, and
said. `--device cpu --presets da3-small --views 1` tries the command itself.
"""

import argparse
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import report
import torch
from torch import Tensor, nn

from da3_core.api import DepthAnything3
from da3_core.model.memory import needed_bytes
from da3_core.model.presets import find_preset
from da3_core.network import build_network

PRESETS = ("da3-small", "da3-base", "da3-large", "da3metric-large", "da3-giant")
SIZES_HW = ((378, 504), (280, 504))
VIEWS = (1, 4, 8, 32)
TOLERANCES = {"float32": 2e-3, "bfloat16": 5e-2}  # of the largest value; TF32 is off
GOLDENS = Path(__file__).parents[1] / "tests" / "network"
_SECONDS_A_CELL = 1.0


class Clock:
    """The time that is left, and what was left out for want of it."""

    def __init__(self, seconds: float) -> None:
        self._end, self.left_out = time.monotonic() + seconds, list[str]()

    def allows(self, what: str, seconds: float) -> bool:
        fits = time.monotonic() + seconds < self._end
        if not fits:
            self.left_out.append(what)
        return fits


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield


def goldens(device: torch.device, clock: Clock) -> list[dict[str, Any]]:
    """The largest deviation of depth and cameras in every golden case."""
    sys.path.insert(0, str(GOLDENS))
    from golden import CASES, GoldenCase, deviation, fill_with_golden, normalise

    rows: list[dict[str, Any]] = []
    holder: nn.ModuleDict | None = None
    loaded: tuple[str, int] | None = None
    for name in sorted(CASES, key=lambda name: (CASES[name]["preset"], CASES[name]["weights_seed"])):
        case = GoldenCase(name)
        if not clock.allows(f"golden {name}", 10):
            continue
        if loaded != (case.preset, case.seed):
            del holder
            gc.collect()
            with torch.device("meta"):
                holder = nn.ModuleDict({"model": build_network(find_preset(case.preset).network)})
            holder.to_empty(device="cpu")
            fill_with_golden(holder, case.seed)
            holder.to(device)
            loaded = (case.preset, case.seed)
        assert holder is not None
        expected, options = case.arrays(), dict(case.options)
        for each in ("extrinsics", "intrinsics"):
            if f"in_{each}" in expected:
                options[each] = torch.from_numpy(expected[f"in_{each}"]).to(device)
        row: dict[str, Any] = {"case": name}
        for kind, tolerance in TOLERANCES.items():
            with precision(kind, device):
                found = holder["model"](normalise(case.images()).to(device), **options)
            worst = 0.0
            for each in ("depth", "depth_conf", "extrinsics", "intrinsics", "sky"):
                if each in expected and each in found:
                    value = found[each].float().cpu()
                    if f"{each}__step" in expected:
                        value = value[tuple(slice(None, None, step) for step in expected[f"{each}__step"])]
                    worst = max(worst, deviation(value, expected[each]))
            row |= {kind: worst, f"{kind}_ok": worst <= tolerance}
        rows.append(row)
        verdicts = ", ".join(f"{kind} {row[kind]:.1e}{'' if row[f'{kind}_ok'] else ' WRONG'}" for kind in TOLERANCES)
        print(f"golden {name}: {verdicts}", flush=True)
    return rows


def rasterizers(device: torch.device) -> dict[str, Any]:
    """gsplat beside the plain rasteriser: the largest difference of colour and alpha, and both times."""
    if device.type != "cuda" or importlib.util.find_spec("gsplat") is None:
        return {"skipped": "gsplat needs to be installed, and CUDA"}
    from da3_core.render import gsplat_rasterizer, torch_rasterizer

    count, height, width = 20_000, 240, 320
    generator = torch.Generator().manual_seed(0)
    scene: tuple[Any, ...] = (
        torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 3.0, 4.0]) - torch.tensor([2.0, 1.5, -2.0]),
        torch.randn(count, 4, generator=generator),
        torch.rand(count, 3, generator=generator) * 0.03 + 0.005,
        torch.rand(count, generator=generator) * 0.9,
        torch.randn(count, 9, 3, generator=generator) * 0.3,
        torch.eye(4)[None],
        torch.tensor([[[300.0, 0, width / 2], [0, 300, height / 2], [0, 0, 1]]]),
    )
    scene = tuple(part.to(device) for part in scene)
    (fast, fast_alpha), (plain, plain_alpha) = (
        each.rasterize(*scene, height, width) for each in (gsplat_rasterizer, torch_rasterizer)
    )
    return {
        "largest_difference": float((fast[..., :3] - plain[..., :3]).abs().max()),
        "largest_difference_alpha": float((fast_alpha - plain_alpha).abs().max()),
        "gsplat_s": seconds_of(lambda: gsplat_rasterizer.rasterize(*scene, height, width), device),
        "torch_s": seconds_of(lambda: torch_rasterizer.rasterize(*scene, height, width), device),
    }


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Median of as many runs as fit into a second, at least three, after two to warm up."""

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    slowest = max(once(), once())
    return statistics.median(once() for _ in range(max(3, min(50, int(_SECONDS_A_CELL / slowest)))))


def graphed(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """The pass as one CUDA graph. What waits for the device inside cannot be captured, which raises."""
    model(images)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(images)
    return graph.replay


def variants(model: nn.Module, images: Tensor, arguments: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Ways to run a pass; each is made when its turn comes and may turn out to be impossible."""
    found: dict[str, Callable[[], Any]] = {"plain": lambda: lambda: model(images)}
    if images.is_cuda:
        found["CUDA graph"] = lambda: graphed(model, images)
        found["compiled"] = lambda: (lambda fast: lambda: fast(images))(torch.compile(model))
    return {name: make for name, make in found.items() if name in arguments.variants.split(",")}


def speeds(device: torch.device, clock: Clock, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Windows per second, and allocated beside predicted memory."""
    rows: list[dict[str, Any]] = []
    for preset in arguments.presets.split(","):
        if not clock.allows(preset, 15):
            continue
        with torch.device(device):
            model = build_network(find_preset(preset).network)  # random weights are as fast as others
        for size in SIZES_HW:
            for views in map(int, arguments.views.split(",")):
                images = torch.randn(1, views, 3, *size, device=device)
                row: dict[str, Any] = {"preset": preset, "size_hw": size, "views": views, "windows_per_s": {}}
                for name, make in variants(model, images, arguments).items():
                    what = f"{preset} {size[1]}x{size[0]} {views} views {name}"
                    if not clock.allows(what, 60 if name == "compiled" else 4 * _SECONDS_A_CELL):
                        continue
                    try:
                        with precision("bfloat16", device):
                            row["windows_per_s"][name] = 1 / seconds_of(make(), device)
                            if name == "plain" and device.type == "cuda":
                                torch.cuda.reset_peak_memory_stats()
                                before = torch.cuda.memory_allocated()
                                model(images)
                                row["allocated_mb"] = (torch.cuda.max_memory_allocated() - before) / 1e6
                                row["predicted_mb"] = (
                                    needed_bytes(find_preset(preset), float(size[0] * size[1]), views) / 1e6
                                )
                    except Exception as error:  # each variant has its own ways to fail, which is a result too
                        row["windows_per_s"][name] = None
                        print(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:160]}", flush=True)
                        if device.type == "cuda":
                            torch.cuda.empty_cache()
                rows.append(row)
                told = ", ".join(f"{name} {rate:.1f}" for name, rate in row["windows_per_s"].items() if rate)
                memory = (
                    f"; {row['allocated_mb']:.0f} MB, predicted {row['predicted_mb']:.0f}"
                    if "allocated_mb" in row
                    else ""
                )
                print(f"{preset} {size[1]}x{size[0]} {views} views: {told} windows/s{memory}", flush=True)
        del model
        gc.collect()
    return rows


def engines(clock: Clock) -> list[dict[str, Any]]:
    """small with 4 views through the providers of ONNX Runtime, from uint8 images to a prediction, beside torch."""
    if importlib.util.find_spec("onnxruntime") is None or not torch.cuda.is_available():
        return []
    import numpy as np

    images = list(np.random.default_rng(0).integers(0, 256, (4, 378, 504, 3), np.uint8))
    rows = []
    for engine in ("torch", "onnxruntime:cuda", "onnxruntime:tensorrt"):
        if not clock.allows(engine, 90):
            continue
        try:
            model = DepthAnything3.from_pretrained("untrained:da3-small", device="cuda", engine=engine)  # type: ignore[arg-type]
            seconds = seconds_of(lambda model=model: model.inference(images), torch.device("cuda"))  # type: ignore[misc]
            rows.append({"engine": engine, "windows_per_s": 1 / seconds})
        except Exception as error:  # such as a provider that this installation lacks
            rows.append({"engine": engine, "error": f"{type(error).__name__}: {error}"[:300]})
        print(f"{engine}: {rows[-1]}", flush=True)
    return rows


OFFICIAL = """
import json, sys, time, torch
from depth_anything_3.api import DepthAnything3
model = DepthAnything3.from_pretrained(sys.argv[1]).to("cuda")
for views in (1, 4, 8, 32):
    images = torch.randn(1, views, 3, 378, 504, device="cuda")
    times = []
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for _ in range(8):
            torch.cuda.synchronize(); start = time.perf_counter()
            model.model(images)
            torch.cuda.synchronize(); times.append(time.perf_counter() - start)
    print("answer", json.dumps([views, 1 / sorted(times[2:])[3]]), flush=True)
"""


def official(python: str, presets: list[str], clock: Clock) -> list[dict[str, Any]]:
    """Windows per second of the official network at 504x378, same weights, bfloat16."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            if not clock.allows(f"official {preset}", 60):
                continue
            weights = Path(folder, preset)
            DepthAnything3.from_pretrained(f"untrained:{preset}", engine="torch").save_pretrained(weights)
            ran = subprocess.run([python, "-c", OFFICIAL, str(weights)], capture_output=True, text=True, timeout=120)
            answers = [line.removeprefix("answer ") for line in ran.stdout.splitlines() if line.startswith("answer ")]
            for views, rate in map(json.loads, answers):
                rows.append({"preset": preset, "views": views, "windows_per_s": rate})
                print(f"official {preset} {views} views: {rate:.1f} windows/s", flush=True)
            if not answers:
                rows.append({"preset": preset, "error": ran.stderr[-300:]})
                print(f"official {preset}: {ran.stderr[-300:]}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--views", default=",".join(map(str, VIEWS)))
    parser.add_argument("--variants", default="plain,CUDA graph,compiled")
    parser.add_argument("--official", help="interpreter of an environment with the package depth-anything-3")
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the table")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "torch finds no GPU here\n")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    clock = Clock(arguments.seconds)
    measured = {
        "card": torch.cuda.get_device_name() if device.type == "cuda" else "no GPU",
        "rasterizers": rasterizers(device),
        "speeds": speeds(device, clock, arguments),
        "engines": engines(clock),
        "official": official(arguments.official, arguments.presets.split(","), clock) if arguments.official else [],
        "goldens": goldens(device, clock) if GOLDENS.is_dir() else [],
        "left_out": clock.left_out,
    }
    print(
        f"{measured['card']}; rasterisers {measured['rasterizers']}; left out: {', '.join(clock.left_out) or 'nothing'}"
    )
    report.publish("gpu", arguments.out, **measured)
    wrong = [row["case"] for row in measured["goldens"] if not all(row[f"{kind}_ok"] for kind in TOLERANCES)]
    if wrong:
        parser.exit(1, f"golden cases that are wrong on this card: {', '.join(wrong)}\n")


if __name__ == "__main__":
    main()
