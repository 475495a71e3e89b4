# SPDX-License-Identifier: Apache-2.0
"""`depth_exr`: depth as 32-bit floating point OpenEXR, `depth_exr/0000.exr` and so on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from da3_core.export.points import has_depth
from da3_core.options import option
from da3_core.prediction import Prediction


@dataclass(frozen=True)
class Options:
    channel: Literal["Y", "Z"] = option(
        "Y", "Y: grey, as OpenCV, imageio and viewers read it; Z: depth, as compositors name it."
    )


def write(prediction: Prediction, folder: Path, options: Options) -> None:
    """One channel in the depth's unit, metres when it is metric; 0 where depth is invalid.

    By the OpenEXR project's own package: OpenCV can write these files too, but only if a variable of the environment
    was set before its first use, which no library should do to its program.
    """
    import OpenEXR

    (folder / "depth_exr").mkdir()
    for view, depth in enumerate(prediction.depth):
        values = np.where(has_depth(depth), depth, 0).astype(np.float32)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {options.channel: values}) as file:
            file.write(str(folder / f"depth_exr/{view:04d}.exr"))
