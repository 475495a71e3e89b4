# SPDX-License-Identifier: Apache-2.0
"""How much an export of the session slows down the stream beside it: windows per second with and without one.

`python benchmarks/export_live.py [--out FILE.json]` prints a table and writes JSON. The network runs in one thread,
exports of a full record run one after the other in the background, as in the node; DDS is not part of it.
"""

import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import report
import torch

from da3_core.export import export
from da3_core.storage.export_folder import ExportFolder
from da3_core.stream.frame import Frame
from da3_core.stream.inference import bind_inference
from da3_core.stream.record import SessionRecord
from da3_core.stream.session import Session, SessionOptions
from da3_ros.background import in_background
from da3_ros.engine import load_model
from da3_ros.parameters import settings_from

FORMATS = "glb-mini_npz-ply"
SETTINGS = settings_from({"model": "untrained:da3-small", "device": "cpu", "process_res": 168, "window.size": 4})
MOST_DROP = 0.2


class Stream:
    """Windows of noise through the model, the session and the record."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        options = SessionOptions(SETTINGS.scale.source, SETTINGS.scale.fixed_m_per_unit)
        self._session = Session(bind_inference(load_model(SETTINGS), SETTINGS), options)
        self._frames = [self._frame(stamp) for stamp in range(SETTINGS.window.size)]
        self.record = SessionRecord(SETTINGS.export.max_views)

    def _frame(self, stamp_ns: int) -> Frame:
        return Frame(self._random.integers(0, 256, (480, 640, 3), np.uint8), stamp_ns)

    def fill_record(self) -> None:
        """As many views as it can hold, all of them of one window."""
        result = self._session.process(self._frames)
        views = tuple(replace(view, is_new=True) for view in result.views)
        for _ in range(SETTINGS.export.max_views // len(views)):
            self.record.add(replace(result, views=views, placement="points"), 0)

    def window_s(self) -> float:
        """How long the next window takes."""
        self._frames = [*self._frames[1:], self._frame(self._frames[-1].stamp_ns + 1)]
        start = time.perf_counter()
        self.record.add(self._session.process(self._frames), 0)
        return time.perf_counter() - start


class Exports(threading.Thread):
    """One after the other, until `stop`."""

    def __init__(self, record: SessionRecord, folder: Path) -> None:
        super().__init__()
        self._record, self._folder = record, ExportFolder(folder, folder, ours=False, overwrite=True)
        self._stopping = threading.Event()
        self.durations_s: list[float] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            start = time.perf_counter()
            in_background(lambda: self._folder.write(self._export))
            self.durations_s.append(time.perf_counter() - start)

    def _export(self, staging: Path) -> None:
        export(self._record.prediction("session"), staging, FORMATS)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def main() -> None:
    arguments = report.arguments(__doc__, repeats=10)
    torch.set_num_threads(1)
    stream = Stream()
    stream.fill_record()
    alone, beside = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # in turns, since other work on the machine comes and goes
            alone += [stream.window_s() for _ in range(arguments.repeats)]
            exports = Exports(stream.record, Path(folder))
            exports.start()
            beside += [stream.window_s() for _ in range(arguments.repeats)]
            exports.stop()
    rates = [1 / statistics.median(durations) for durations in (alone, beside)]
    drop = 1 - rates[1] / rates[0]
    print(f"| windows per second | |\n|---|---|\n| alone | {rates[0]:.2f} |\n| beside exports | {rates[1]:.2f} |")
    print(f"| drop (at most {MOST_DROP:.0%}) | {drop:.0%} |")
    report.publish(
        "export_live",
        arguments.out,
        windows_per_s=rates[0],
        windows_per_s_beside_exports=rates[1],
        drop=drop,
        most_drop=MOST_DROP,
        export_s=exports.durations_s,
        views=len(stream.record.prediction("session").depth),
    )


if __name__ == "__main__":
    main()
