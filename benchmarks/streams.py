# SPDX-License-Identifier: Apache-2.0
"""How straight disturbed streams come out, live and recorded, beside published recipes on the same answers.

Writes docs/accuracy.md with `--write`. `--repeats` is the number of seeds, none of which anything was tuned on.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from report import publish
from stream_lab.measures import Measures, measure
from stream_lab.noise import CASES, DisturbedModel
from stream_lab.recipes import RECIPES, join
from stream_lab.runs import known_metres, live, make_frames, recorded
from stream_lab.worlds import SIZE, WorldName, walk

from da3_core.geometry.cameras import invert_rigid
from da3_core.geometry.similarity import fit_similarity
from da3_core.prediction import Prediction
from da3_core.stream.frame import Frame
from da3_core.stream.live_loops import LiveLoops
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import Session, SessionOptions

DOCUMENT = Path(__file__).parents[1] / "docs" / "accuracy.md"
FIRST_SEED, WORLD_SEED = 1000, 11
STEP_M = 0.08
LAP_M = 51.0
HOW = ("live", "exported", "recorded", *RECIPES)

INTRODUCTION = """# Accuracy of streams

A model infers a few frames at a time, each time in a world and a unit of its own. How straight the map comes out in
the end is measured here on worlds whose truth is known: a hall of 30 x 20 m walked in laps of 51 m, and a street.
The model is the truth with disturbances. **Their levels are guesses**, of which "real" imitates a good any-view network
and "soft" a small one; `benchmarks/stream_lab/noise.py` says what each means. Numbers of a network on real sequences
will be others. None of the seeds, and not the furniture of the world, was used while the code was written.

`live` is what a session publishes at once, which is never revised; `exported` is what the same session knows of these
frames in the end, which `~/path` and exports hold; `recorded` is what `da3 images` and `da3 video` make of the same
windows afterwards. "Neighbour points" is the recipe of VGGT-Long and DA3-Streaming, written anew:
every window by the confident points that it shares with the one before it. "Neighbour cameras" takes the scale from
ratios of depth, the rest from the shared cameras. All see the same answers of the model.
"""


@dataclass(frozen=True)
class Stream:
    case: str
    frames: int = 200
    size: int = 8
    stride: int = 4
    world: WorldName = "hall"


STREAMS = [
    *(Stream(case) for case in CASES),
    Stream("real", stride=1),
    Stream("soft", stride=1),
    Stream("real", size=16, stride=8),
    Stream("real", frames=600, world="street"),
    Stream("white 2 %", frames=600, world="street"),
]
LOOPS = [("real", 675), ("real", 1300), ("soft", 675), ("soft", 1300)]
KNOWN = [("real", 4, 1, 0.0), ("real", 8, 4, 0.0), ("real", 16, 8, 0.0), ("soft", 8, 4, 0.0), ("real", 8, 4, 0.1)]


def compare(stream: Stream, seed: int) -> dict[str, Measures]:
    """Of every way of joining the same windows."""
    truth = walk(stream.world, stream.frames, STEP_M, WORLD_SEED)
    model = DisturbedModel(truth, CASES[stream.case], seed)
    joined = live(model, truth, stream.size, stream.stride)
    answers = iter([prediction for _, prediction in model.windows])
    ways: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "live": lambda: (joined.cameras, joined.depth),
        "exported": lambda: (joined.exported_cameras, joined.exported.depth),
        "recorded": lambda: recorded(lambda _: next(answers), truth, stream.size, stream.stride),
    }
    ways |= {name: lambda name=name: join(model.windows, stream.frames, name) for name in RECIPES}
    return {name: measure(*way(), truth.camera_to_world, truth.depth_m) for name, way in ways.items()}


def compare_streams(seeds: Sequence[int]) -> list[dict[str, object]]:
    rows = []
    for stream in STREAMS:
        measured = [compare(stream, seed) for seed in seeds]
        row: dict[str, object] = {"stream": vars(stream)}
        for name in HOW:
            row[name] = {
                value: float(np.mean([getattr(each[name], value) for each in measured]))
                for value in ("ate_m", "flicker", "rotation_deg")
            }
        rows.append(row)
        print(stream, *(f"{name} {row[name]['ate_m']:.4f}" for name in HOW), flush=True)
    return rows


def compare_loops(seeds: Sequence[int]) -> list[dict[str, object]]:
    rows = []
    for case, frames in LOOPS:
        truth = walk("hall", frames, STEP_M, WORLD_SEED)
        open_m, closed_m = (
            float(
                np.mean(
                    [
                        measure(
                            *recorded(DisturbedModel(truth, CASES[case], seed), truth, 8, 4, loops=loops),
                            truth.camera_to_world,
                            truth.depth_m,
                        ).ate_m
                        for seed in seeds
                    ]
                )
            )
            for loops in (False, True)
        )
        running = [live(DisturbedModel(truth, CASES[case], seed), truth, 8, 4, loops=True) for seed in seeds]
        exported_m = np.mean(
            [
                measure(each.exported_cameras, each.exported.depth, truth.camera_to_world, truth.depth_m).ate_m
                for each in running
            ]
        )
        way_m = frames * STEP_M
        rows.append(
            {"case": case, "way_m": way_m, "open_m": open_m, "closed_m": closed_m, "exported_m": float(exported_m)}
        )
        print(rows[-1], flush=True)
    return rows


def compare_known(seeds: Sequence[int]) -> list[dict[str, object]]:
    truth = walk("hall", 200, STEP_M, WORLD_SEED)
    rows = []
    for case, size, stride, noise_m in KNOWN:
        followed = [
            known_metres(DisturbedModel(truth, CASES[case], seed), truth, size, stride, pose_noise_m=noise_m, seed=seed)
            for seed in seeds
        ]
        jumps = np.concatenate([np.abs(np.diff(each.error)) for each in followed])
        rows.append(
            {
                "case": case,
                "window": f"{size}/{stride}",
                "pose_noise_m": noise_m,
                "bias": float(np.mean([np.median(each.error) for each in followed])),
                "jump": float(np.median(jumps)),
                "stated": float(np.median(np.concatenate([each.deviation for each in followed]))),
            }
        )
        print(rows[-1], flush=True)
    return rows


@dataclass(frozen=True)
class LongRun:
    """Peak memory of the process after a tenth of the frames and after all, and errors of the path: of the last lap as
    published, and of what is exported in the end."""

    frames: int
    early_mb: float
    late_mb: float
    published_m: float
    exported_m: float


def long_run(case: str = "real", frames: int = 10_000, views: int = 200, size: int = 8, stride: int = 4) -> LongRun:
    """Laps of the hall, with loops closed live."""
    lap = walk("hall", 600, LAP_M / 600, WORLD_SEED)
    model, of_lap = DisturbedModel(lap, CASES[case], FIRST_SEED), len(lap.depth_m)

    def infer(chosen: Sequence[Frame]) -> Prediction:
        model.windows.clear()  # what other recipes would need
        return model([replace(frame, stamp_ns=frame.stamp_ns % of_lap) for frame in chosen])

    session = Session(infer, SessionOptions("auto", 1.0), LiveLoops(infer, in_background=False))
    record, window, published, peaks = SessionRecord(views), list[Frame](), {}, []
    image = np.zeros((*SIZE, 3), np.uint8)
    for number in range(frames):
        window = [*window, Frame(image, stamp_ns=number)]
        if len(window) < size:
            continue
        result, window = session.process(window), window[stride:]
        record.add(result, 0)
        published |= {v.frame.stamp_ns: invert_rigid(v.world_to_camera) for v in result.views if v.is_new}
        published = dict(list(published.items())[-of_lap:])
        if number >= frames // 10 and not peaks:
            peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)

    def error_m(stamps: Sequence[int], cameras: np.ndarray) -> float:
        truth = lap.camera_to_world[np.array(stamps) % of_lap, :3, 3]
        moved = fit_similarity(cameras[:, :3, 3], truth).apply(cameras[:, :3, 3])
        return float(np.sqrt(((moved - truth) ** 2).sum(1).mean()))

    kept = record.prediction()
    assert kept.extrinsics is not None
    assert kept.stamps_ns is not None
    exported_m = error_m(list(kept.stamps_ns), invert_rigid(kept.extrinsics.astype(np.float64)))
    return LongRun(frames, *peaks, error_m(list(published), np.stack(list(published.values()))), exported_m)


def live_cost_ms(size: int = 8, stride: int = 4, pixels: tuple[int, int] = (378, 504)) -> float:
    """Of a window at full size, without the inference, median."""
    truth = walk("hall", 200, STEP_M, WORLD_SEED)
    model = DisturbedModel(truth, CASES["real"], FIRST_SEED)
    rows, columns = (np.arange(n) * small // n for n, small in zip(pixels, truth.depth_m.shape[1:], strict=True))
    frames, seconds = make_frames(len(truth.depth_m)), []
    spent_s = 0.0

    def infer(chosen: Sequence[object]) -> object:
        nonlocal spent_s
        started = time.process_time()
        small = model(chosen)
        zoom = np.diag([pixels[1] / 64, pixels[0] / 48, 1])
        large = type(small)(
            **{
                **vars(small),
                "depth": small.depth[:, rows][:, :, columns],
                "conf": small.conf[:, rows][:, :, columns],
                "intrinsics": (zoom @ small.intrinsics).astype(np.float32),
            }
        )
        spent_s += time.process_time() - started
        return large

    session = Session(infer, SessionOptions("auto", 1.0))
    for end in range(size, len(frames) + 1, stride):
        spent_s, started = 0.0, time.process_time()
        session.process(frames[end - size : end])
        seconds.append(time.process_time() - started - spent_s)
    return 1e3 * float(np.median(seconds))


def document(streams: list, loops: list, long: LongRun, known: list, cost_ms: float, seeds: int) -> str:
    lines = [INTRODUCTION, f"Means over {seeds} seeds; made by `python benchmarks/streams.py --write`.", ""]
    lines += ["## Error of the path, metres (root mean square after one similarity)", ""]
    lines += [
        "| disturbance | world | frames | window/stride | " + " | ".join(HOW) + " |",
        "|---" * (4 + len(HOW)) + "|",
    ]
    for row in streams:
        s = row["stream"]
        errors = " | ".join(f"{row[name]['ate_m']:.4f}" for name in HOW)
        lines.append(f"| {s['case']} | {s['world']} | {s['frames']} | {s['size']}/{s['stride']} | {errors} |")
    lines += ["", "## Flicker: change of the depth's scale from frame to frame, median, per cent", ""]
    lines += ["| disturbance | window/stride | live | exported | recorded |", "|---|---|---|---|---|"]
    for row in streams:
        s = row["stream"]
        if s["world"] == "hall" and s["case"] in ("real", "soft"):
            values = " | ".join(f"{100 * row[name]['flicker']:.2f}" for name in HOW[:3])
            lines.append(f"| {s['case']} | {s['size']}/{s['stride']} | {values} |")
    lines += ["", "## Loops (8/4): laps of 51 m, error of the path in metres", ""]
    lines += [
        "| disturbance | way, m | recorded, left open | recorded, closed | exported, closed live |",
        "|---" * 5 + "|",
    ]
    lines += [
        f"| {r['case']} | {r['way_m']:.0f} | {r['open_m']:.2f} | {r['closed_m']:.2f} | {r['exported_m']:.2f} |"
        for r in loops
    ]
    lines += [
        "",
        f"{long.frames} frames in laps, real, loops closed live: {long.published_m:.2f} m in the last lap as "
        f"published, {long.exported_m:.2f} m exported; peak memory of the process {long.early_mb:.0f} MB after a tenth "
        f"of them, {long.late_mb:.0f} MB in the end.",
        "",
        "Two corridors that look the same are not joined, which `tests/stream/test_loops.py` holds.",
    ]
    lines += ["", "## Metres under known poses (live)", ""]
    lines += [
        "| disturbance | window/stride | noise of poses, m | bias of depth, % | jump from window to window, % | "
        "stated deviation, % |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['case']} | {r['window']} | {r['pose_noise_m']:.2f} | {100 * r['bias']:.1f} | {100 * r['jump']:.1f} | "
        f"{100 * r['stated']:.1f} |"
        for r in known
    ]
    lines += [
        "",
        f"Placing a window of 8 views of 504 x 378 took {cost_ms:.1f} ms of one core beside its inference, median, on "
        "the machine that made this page, which other work kept busy.",
        "",
        "## What limits it",
        "",
        "- What is published at once rests on its one window. Steady motion takes the better part of that window's "
        "error of a single camera away, where there is such motion. Corrected poses come with every later window "
        "(`WindowResult.corrected`).",
        "- A loop that is closed live shows in paths and exports, and in what is published afterwards.",
        "- The stated deviation is that of the scale; errors in the shape of depth come on top.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the JSON here instead of after the tables")
    parser.add_argument("--repeats", type=int, default=4, help="seeds")
    parser.add_argument("--write", action="store_true", help="write docs/accuracy.md")
    chosen = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + chosen.repeats)
    streams, known, loops = compare_streams(seeds), compare_known(seeds), compare_loops(seeds)
    long, cost_ms = long_run(), live_cost_ms()
    print(f"placing a window took {cost_ms:.1f} ms")
    if chosen.write:
        DOCUMENT.write_text(document(streams, loops, long, known, cost_ms, chosen.repeats))
    publish(
        "streams",
        chosen.out,
        streams=streams,
        loops=loops,
        known_poses=known,
        long_run=vars(long),
        live_cost_ms=cost_ms,
    )


if __name__ == "__main__":
    main()
