# SPDX-License-Identifier: Apache-2.0
"""A prediction as bytes and back, exactly: what is kept of a window on disk, and what another process sends of it.

An archive of NumPy arrays with a header of JSON, so that reading it runs nobody's code.
"""

from __future__ import annotations

import io
import json
from dataclasses import fields, is_dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np

from da3_core.errors import InputError
from da3_core.geometry.feature_poses import FeaturePoses
from da3_core.geometry.similarity import Similarity, TrajectoryAlignment
from da3_core.prediction import Prediction

_CLASSES: dict[str, type] = {
    each.__name__: each for each in (Prediction, FeaturePoses, TrajectoryAlignment, Similarity)
}


def to_bytes(prediction: Prediction) -> bytes:
    """A prediction of any number of views.

    Raises:
        TypeError: it has Gaussians, which live on the model's device, or `aux` holds what is not known here.
    """
    arrays: list[np.ndarray] = []
    header = json.dumps(_described(prediction, arrays)).encode()
    file = io.BytesIO()
    named = {f"a{number}": array for number, array in enumerate(arrays)}
    np.savez(file, header=np.frombuffer(header, np.uint8), **named)  # type: ignore[arg-type]
    return file.getvalue()


def from_bytes(data: bytes) -> Prediction:
    """What `to_bytes` was given.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = [file[f"a{number}"] for number in range(len(file.files) - 1)]
            prediction = _made(json.loads(file["header"].tobytes()), arrays)
    except (BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
        raise InputError(f"a kept prediction is damaged ({error})") from error
    assert isinstance(prediction, Prediction)
    return prediction


def _described(value: Any, arrays: list[np.ndarray]) -> Any:
    """A value for JSON; arrays are put aside and numbered."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return {"tuple": [_described(each, arrays) for each in value]}
    if isinstance(value, dict):
        return {"dict": {name: _described(each, arrays) for name, each in value.items()}}
    kind = type(value).__name__
    if is_dataclass(value) and kind in _CLASSES:
        return {"class": kind, "fields": {f.name: _described(getattr(value, f.name), arrays) for f in fields(value)}}
    raise TypeError(f"a {kind} in a prediction cannot be kept")


def _made(value: Any, arrays: list[np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "tuple" in value:
        return tuple(_made(each, arrays) for each in value["tuple"])
    if "dict" in value:
        return {name: _made(each, arrays) for name, each in value["dict"].items()}
    return _CLASSES[value["class"]](**{name: _made(each, arrays) for name, each in value["fields"].items()})
