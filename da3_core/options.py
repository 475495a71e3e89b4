# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about an inference, each choice with its one default, for the library and the command line alike.

It imports nothing heavy, so that a help page may show the defaults without loading a network.
"""

from dataclasses import dataclass
from typing import Literal

from da3_core.network.config import PATCH_SIZE as PATCH_SIZE
from da3_core.network.config import RefViewStrategy as RefViewStrategy

PoseMethod = Literal["auto", "decoder", "rays", "features"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
ProcessResMethod = Literal["upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop"]
WeightsLicence = Literal["any", "permissive"]

DEFAULT_MODEL = "auto"  # of the library, every command, the services and the node; `weights.resolve` decides what it is
PROCESS_RES = 504  # pixels; what the released models are used at, see `Preset.process_res`


@dataclass(frozen=True)
class InferenceOptions:
    """Choices of `DepthAnything3.inference`, described there; the class attributes are the defaults."""

    process_res: int | None = None
    process_res_method: ProcessResMethod = "upper_bound_resize"
    align_to_input_ext_scale: bool = True
    use_ray_pose: bool = False
    pose_method: PoseMethod = "auto"
    ref_view_strategy: RefViewStrategy = "saddle_balanced"
