# SPDX-License-Identifier: Apache-2.0
"""A prediction on disk, to go on with later: every array of it, bit by bit, but no Gaussians and no `aux`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from da3_core.export.npz import write_arrays
from da3_core.prediction import Prediction

_LEFT_OUT = ("gaussians", "aux")


def save_prediction(prediction: Prediction, path: Path) -> None:
    values = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    known = {name: value for name, value in values.items() if name not in _LEFT_OUT and value is not None}
    write_arrays(path, {name: np.asarray(value) for name, value in known.items()})


def load_prediction(path: Path) -> Prediction:
    """
    Raises:
        FileNotFoundError: there is none.
        Exception: of any kind, if it is damaged.
    """
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    scalars = {name: values[name].item() for name in ("is_metric", "scale_factor", "world") if name in values}
    names = {"image_names": tuple(values["image_names"].tolist())} if "image_names" in values else {}
    return Prediction(**{**values, **scalars, **names})
