# SPDX-License-Identifier: Apache-2.0
"""How much a bag that is processed slows down the stream beside it: windows per second with and without one.

`python benchmarks/bag_live.py [--out FILE.json]` prints a table and writes JSON. The network runs in one thread, in the
engine of the node, with a stream whose next window always waits; one bag after the other is read, inferred in turn and
written in the background, as in the node; DDS is not part of it.
"""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import report
import torch

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import process_bag
from da3_core.bag.read import BagReader
from da3_core.stream.frame import Frame
from da3_core.stream.session import WindowResult
from da3_core.synthetic import room_walk
from da3_core.synthetic.bag import write_bag
from da3_ros.background import in_background
from da3_ros.bag_service import infer_in_turn
from da3_ros.engine import Engine, load_model
from da3_ros.parameters import settings_from
from da3_ros.window_buffer import Arrival, LiveWindow, WindowBuffer

SETTINGS = settings_from({"model": "untrained:da3-small", "device": "cpu", "process_res": 168, "window.size": 4})
HEIGHT, WIDTH = 480, 640
MOST_DROP = 0.2


class Stream:
    """An engine whose buffer gets the next image of noise with every result."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._buffer = WindowBuffer(SETTINGS)
        self._windows = 0
        self._progress = threading.Condition()
        self._stamp_ns = 0
        self.engine = Engine(
            load_model(SETTINGS),
            self._buffer,
            SETTINGS,
            on_result=self._on_result,
            on_refused=lambda refusal: None,
            on_failure=self._on_failure,
        )
        for _ in range(SETTINGS.window.size):
            self._put()
        self.engine.start()

    def _put(self) -> None:
        self._stamp_ns += 1
        frame = Frame(self._random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), self._stamp_ns)
        self._buffer.put(Arrival(frame.stamp_ns, frame.camera, (HEIGHT, WIDTH), lambda: (frame,)))

    def _on_result(self, result: WindowResult, window: LiveWindow) -> None:
        self._put()
        with self._progress:
            self._windows += 1
            self._progress.notify_all()

    def _on_failure(self, error: Exception, in_a_row: int) -> None:
        raise error

    def seconds_of(self, windows: int) -> float:
        """How long so many more windows take."""
        with self._progress:
            start, end = time.perf_counter(), self._windows + windows
            self._progress.wait_for(lambda: self._windows >= end)
            return time.perf_counter() - start


class Bags(threading.Thread):
    """One after the other, until `stop`."""

    def __init__(self, engine: Engine, recording: Path, folder: Path) -> None:
        super().__init__()
        self._engine, self._recording, self._folder = engine, recording, folder
        self._stopping = threading.Event()
        self.frames = 0

    def run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            in_background(lambda to=self._folder / str(number): self._process(to))

    def _process(self, output: Path) -> None:
        options = BagOptions(window=SETTINGS.window.size)
        with BagReader(self._recording) as bag:
            summary = process_bag(
                RecordedCamera(bag, options),
                lambda frames: infer_in_turn(self._engine, frames, self._stopping.is_set),
                options,
                output,
                "mcap",
                model_name=SETTINGS.model,
                advance=lambda frames: None,
                stop=self._stopping.is_set,
                on_result=lambda result, session: None,
            )
        self.frames += summary.frames

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def main() -> None:
    arguments = report.arguments(__doc__, repeats=30)
    torch.set_num_threads(1)
    alone_s = beside_s = 0.0
    frames = 0
    with tempfile.TemporaryDirectory() as folder:
        recording = write_bag(room_walk(frames=24, size=(HEIGHT, WIDTH)), Path(folder, "recording"))
        stream = Stream()
        stream.seconds_of(2)
        for turn in range(2):  # in turns, since other work on the machine comes and goes
            alone_s += stream.seconds_of(arguments.repeats)
            bags = Bags(stream.engine, recording, Path(folder, str(turn)))
            bags.start()
            beside_s += stream.seconds_of(arguments.repeats)
            bags.stop()
            frames += bags.frames
        stream.engine.stop()
    windows = 2 * arguments.repeats
    drop = 1 - alone_s / beside_s
    print("| windows per second | |\n|---|---|")
    print(f"| alone | {windows / alone_s:.2f} |\n| beside a bag | {windows / beside_s:.2f} |")
    print(
        f"| drop (at most {MOST_DROP:.0%}) | {drop:.0%} |\n| images of the bag per second | {frames / beside_s:.2f} |"
    )
    report.publish(
        "bag_live",
        arguments.out,
        windows_per_s=windows / alone_s,
        windows_per_s_beside_a_bag=windows / beside_s,
        drop=drop,
        most_drop=MOST_DROP,
        bag_images_per_s=frames / beside_s,
    )


if __name__ == "__main__":
    main()
