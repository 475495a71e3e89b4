# SPDX-License-Identifier: Apache-2.0
"""What a request to process a bag means: its fields and the node's parameters, checked before anything is opened."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from da3_core.bag.options import BagOptions, Storage
from da3_core.errors import InputError
from da3_core.options import Option, declared
from da3_core.storage.allowed_folders import AllowedFolders
from da3_core.storage.export_folder import ExportFolder
from da3_ros.export_service import check_possible
from da3_ros.settings import Settings


@dataclass(frozen=True)
class BagJob:
    """A request that may be carried out.

    Attributes:
        input, output: the bag, and the folder of the new bag, which is not there.
        export_folder: where `export_format`, if there is one, is written.
        copied: names of topics that must be in the bag.
    """

    input: Path
    output: Path
    storage: Storage
    options: BagOptions
    export_format: str
    export_folder: ExportFolder
    copied: Sequence[str]


def checked(
    request: Any, settings: Settings, recordings: AllowedFolders, results: AllowedFolders, reference_topic: str
) -> BagJob:
    """The job of a `srv/ProcessBag` request or `action/ProcessBag` goal.

    Args:
        reference_topic: on which the node itself would hear another sensor's depth.

    Raises:
        InputError: a value that is not allowed, a name that leads out of its folder, or an output that exists.
    """
    if not request.input_bag:
        raise InputError(f"The input_bag is empty; name a bag in {recordings.root}.")
    recording = recordings.bag(request.input_bag)
    output = results.folder(request.output_bag or f"{recording.stem}_da3")
    if output == results.root or output.exists():
        raise InputError(f"{output} exists; a bag is written to a new folder, so name another output_bag.")
    export_folder = results.export_folder(request.export_directory)
    for folder in (output, export_folder.path):
        if folder.is_relative_to(recording):
            raise InputError(f"{folder} is in the bag, which is not changed; name another folder.")
    if request.export_format:
        check_possible(request.export_format, {})
    return BagJob(
        input=recording,
        output=output,
        storage=_storage(request.storage),
        options=_options(request, settings, reference_topic),
        export_format=request.export_format,
        export_folder=export_folder,
        copied=() if list(request.copy_topics) == ["all"] else tuple(request.copy_topics),
    )


def _options(request: Any, settings: Settings, reference_topic: str) -> BagOptions:
    pose_source = request.pose_source
    if pose_source in ("tf", "rig") and settings.scale.source not in ("auto", "poses"):
        raise InputError(
            f"The pose_source {pose_source} gives metres and the parameter scale.source is {settings.scale.source}; "
            "leave pose_source out, or set scale.source to auto."
        )
    window, stride = _window(request, settings)
    asked = {name: _asked(request, each) for name, each in declared(BagOptions).items() if "bag_request" in each.faces}
    scale = settings.scale.source
    if scale == "depth_topic" and asked["reference_topic"] is None:
        asked["reference_topic"] = reference_topic
    return BagOptions(
        **asked,
        sync_slop_s=settings.sync.slop_s,
        window=window,
        stride=stride,
        alignment_views=settings.window.alignment_views,
        max_gap_s=settings.window.max_gap_s,
        intrinsics=settings.intrinsics.source,
        image_is_rectified=settings.image_is_rectified,
        rectify_alpha=settings.rectify.alpha,
        scale="auto" if scale == "fixed" else scale,
        reference_slop_s=settings.scale.reference_slop_s,
        camera_height_m=settings.scale.camera_height_m,
        map_up=settings.map.up,
        metres_per_unit=settings.scale.fixed_m_per_unit if scale == "fixed" else None,
        confidence_floor=settings.depth.confidence_floor,
        map_frame=settings.map_frame,
        max_extrapolation_s=settings.tf.max_extrapolation_s,
        path_poses=settings.path.max_poses,
        points=settings.points if request.points else None,
        copy_topics=_topics(request.copy_topics),
    )


def _window(request: Any, settings: Settings) -> tuple[int, int]:
    """Frame sets inferred together and how many are new; no inference is larger than one of the stream."""
    cameras, most = max(1, len(request.image_topics)), settings.window.size
    window = request.window or max(1, most // cameras)
    if window * cameras > most:
        of_cameras = f" of {cameras} cameras" if cameras > 1 else ""
        raise InputError(
            f"A window of {window}{of_cameras} is larger than the parameter window.size, {most}, so it would keep the "
            "stream waiting; make it smaller, or use da3 bag."
        )
    most_new = max(1, window - 1)
    stride = request.stride or min(settings.window.stride, most_new)
    if stride > most_new:
        raise InputError(
            f"The stride is {stride} and the window {window}; windows must share views, so give at most {most_new}."
        )
    return window, stride


def _topics(names: Sequence[str]) -> str:
    """As the regular expression that `BagOptions` takes; a peer's own could keep the process busy for ever."""
    if list(names) in ([], ["all"]):
        return "".join(names) or "none"
    return rf"\A(?:{'|'.join(map(re.escape, names))})\Z"


def _asked(request: Any, each: Option) -> Any:
    """The value of an option; 0 or an empty text leaves open what may be left open."""
    value = getattr(request, each.name)
    if each.is_optional and value in (0, ""):
        return None
    if each.kind is None:
        return tuple(value)
    if not each.allows(value):
        zero = "0 or " if each.is_optional else ""
        given = repr(value[:80]) if isinstance(value, str) else f"{value:g}"
        raise InputError(f"The {each.name} is {given}; give {zero}{each.limits}.")
    return value


def _storage(name: str) -> Storage:
    if name not in get_args(Storage):
        raise InputError(f"The storage is {name[:80]!r}; give one of {', '.join(get_args(Storage))}.")
    return cast(Storage, name)
