# SPDX-License-Identifier: Apache-2.0
"""The program of a model process whose model says what it was asked; images of 255 kill it, of 252 stop it."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from da3_core.errors import ImageError, InputError
from da3_core.model.presets import find_preset
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.prediction import Prediction
from da3_core.sharing.process import main

DEADLY, REFUSED, SLOW, STUCK = 255, 254, 253, 252
SLOW_S = 0.1


class Names:
    """What is kept of views is their names, all that this caller has shown."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def known(self, names: Sequence[int]) -> list[int]:
        self.seen += [name for name in names if name not in self.seen]
        return self.seen


class PlainModel:
    preset = find_preset("da3-small")
    source, device, warning = "plain", "cpu", "it is plain"
    engine_status, precision_status = "none", "float32, as always"

    def kept_views(self) -> Names:
        return Names()

    def predict(
        self,
        images: Sequence[np.ndarray],
        options: InferenceOptions,
        *,
        known: list[int],
        decoded: list[int] | None,
        **cameras: np.ndarray,
    ) -> Prediction:
        first = images[0].flat[0]
        if first == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        if first == REFUSED:
            raise ImageError(1, "it is too bright")
        if first == SLOW:
            time.sleep(SLOW_S * len(images))
        if first == STUCK:
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)  # it takes a moment to come
        asked: dict[str, Any] = {"options": asdict(options), "known": np.array(known), **cameras}
        if decoded is not None:
            asked["decoded"] = np.array(decoded)
        return Prediction(
            depth=np.stack([each.mean(-1, dtype=np.float32) for each in images]),
            processed_images=np.stack(images),
            aux={**asked, "process": os.getpid()},
        )


def load(options: ModelOptions) -> PlainModel:
    if options.model == "missing":
        raise InputError("there is no model called missing")
    if options.model == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return PlainModel()


if __name__ == "__main__":
    main(load)
