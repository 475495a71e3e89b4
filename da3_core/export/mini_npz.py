# SPDX-License-Identifier: Apache-2.0
"""`mini_npz`: depth, confidence and cameras as NumPy arrays, `exports/mini_npz/results.npz`."""

from dataclasses import dataclass
from pathlib import Path

from da3_core.export.npz import essential_arrays, write_arrays
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    pass


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    write_arrays(folder / "exports/mini_npz/results.npz", essential_arrays(prediction))
