# SPDX-License-Identifier: Apache-2.0
"""How the command line writes the names of options, which the library knows as fields."""

import re

# Options whose spelling is not that of their field.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "model": ("--model-dir", "--model"),
    "export_feat_layers": ("--export-feat",),
    "image_topics": ("--image-topic",),
    "camera_info_topics": ("--camera-info-topic",),
    "hfov_deg": ("--hfov",),
    "pose_required": ("--pose-required",),
}


def without_unit(field: str) -> str:
    """`duration_s` -> `duration`: seconds and metres that end a name are left out."""
    return re.sub(r"_(s|m)$", "", field)


def option_of(field: str) -> str:
    """`pose_source` -> `--pose-source`, `image_topics` -> `--image-topic`."""
    return SPELLINGS[field][0] if field in SPELLINGS else f"--{without_unit(field).replace('_', '-')}"
