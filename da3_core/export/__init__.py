# SPDX-License-Identifier: Apache-2.0
"""From a `Prediction` to files: the table of formats and the one function that writes them.

A format is a module of this package with a frozen dataclass `Options` and a function
`write(prediction, folder, options)` that fills an empty folder. It never changes the prediction, and the bytes it
writes depend on nothing else: not on the time, on other formats, or on what was written before.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from da3_core.errors import InputError
from da3_core.export.maps import said_of_others, said_of_views
from da3_core.export.options import build_options
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import staged

if TYPE_CHECKING:
    from da3_core.prediction import Prediction

log = logging.getLogger(__name__)

Need = Literal["images", "poses", "cameras", "gaussians", "features", "names"]


@dataclasses.dataclass(frozen=True)
class Exporter:
    """A format; the module of its name in this package writes it.

    Attributes:
        summary: half a sentence for a list of formats.
        files: patterns of what is written into the export folder, and for further maps below `map_2/` and so on.
        poses: whether it holds camera poses, and so lacks views that have none.
        needs: what the prediction must hold besides depth.
        packages: that the module imports beyond what is always there.
        extra: of this package, which brings them.
    """

    summary: str
    files: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    packages: tuple[str, ...] = ()
    extra: str = "export"
    poses: bool = True


EXPORTERS: dict[str, Exporter] = {
    "mini_npz": Exporter("depth, confidence and cameras as NumPy arrays", ("exports/mini_npz/results.npz",)),
    "npz": Exporter("the same with the images", ("exports/npz/results.npz",), ("images",)),
    "depth_vis": Exporter(
        "image and coloured depth side by side, a JPEG per view", ("depth_vis/*.jpg",), ("images",), poses=False
    ),
    "glb": Exporter(
        "coloured point cloud and camera frusta for 3-D viewers",
        ("scene.glb", "scene.jpg", "depth_vis/*.jpg"),
        ("images", "cameras"),
    ),
    "ply": Exporter("coloured point cloud", ("points.ply",), ("images", "cameras")),
    "depth_png": Exporter("depth in millimetres, 16 bit", ("depth_png/*.png",), poses=False),
    "depth_exr": Exporter(
        "depth as floating point, 32 bit OpenEXR", ("depth_exr/*.exr",), packages=("OpenEXR",), poses=False
    ),
    "mesh": Exporter(
        "coloured surface, fused from all depth maps",
        ("mesh.ply", "mesh.glb"),
        ("images", "cameras"),
        ("skimage", "trimesh"),
        extra="mesh",
    ),
    "html": Exporter("the cloud and a viewer in one file for browsers", ("scene.html",), ("images", "cameras")),
    "tum": Exporter("camera trajectory as text", ("trajectory.txt",), ("poses",)),
    "kitti": Exporter(
        "camera trajectory as rows of matrices, with times", ("kitti/poses.txt", "kitti/times.txt"), ("poses",)
    ),
    "nerfstudio": Exporter(
        "cameras, images and points as transforms.json",
        ("nerfstudio/transforms.json", "nerfstudio/sparse_pc.ply", "nerfstudio/images/*.png"),
        ("images", "poses"),
    ),
    "feat_vis": Exporter(
        "features as colours, images and videos",
        ("feat_vis/*/*.jpg", "feat_vis/*.mp4"),
        ("images", "features"),
        ("av",),
        poses=False,
    ),
    "gs_ply": Exporter("3-D Gaussians for splat viewers", ("gs_ply/0000.ply",), ("gaussians",)),
    "gs_video": Exporter("camera path through the 3-D Gaussians", ("gs_video/*.mp4",), ("gaussians", "poses"), ("av",)),
    "colmap": Exporter(
        "cameras, poses and points as a COLMAP model",
        ("sparse/0/*.bin", "sparse/0/*.txt", "images/*"),
        ("images", "poses", "names"),
    ),
}

_CLOUDS = ("glb", "ply", "html", "mesh", "nerfstudio", "colmap")

# Arguments of `inference` that are short for an option: name -> (format, option), several times where several have it.
NAMED_OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "conf_thresh_percentile": tuple((name, "conf_thresh_percentile") for name in _CLOUDS),
    "num_max_points": tuple((name, "num_max_points") for name in ("glb", "ply", "html")),
    "show_cameras": (("glb", "show_cameras"), ("html", "show_cameras")),
    "feat_vis_fps": (("feat_vis", "fps"),),
    "render_exts": (("gs_video", "extrinsics"),),
    "render_ixts": (("gs_video", "intrinsics"),),
    "render_hw": (("gs_video", "out_image_hw"),),
}

_REMEDIES: dict[Need, str] = {
    "images": "processed images",
    "poses": "camera poses: use an any-view or a nested model, or views that overlap",
    "cameras": "the camera of every view: use an any-view or a nested model, views that overlap, "
    "or one image with known intrinsics",
    "gaussians": "Gaussians: use a giant or a nested model with infer_gs=True",
    "features": "feature maps: name the layers in export_feat_layers, e.g. [5]",
    "names": "names of the images: give the images as paths, or set the option image_names",
}


class Capabilities(Protocol):
    """What an exporter must know of a model; a `Preset` has it."""

    @property
    def name(self) -> str: ...
    @property
    def has_poses(self) -> bool: ...
    @property
    def has_gaussians(self) -> bool: ...


def options_of(name: str) -> type[Any]:
    """The frozen dataclass of a format's options: names, defaults and, as its documentation, meanings."""
    options: type[Any] = _module(name).Options
    return options


def parse_formats(export_format: str) -> tuple[str, ...]:
    """Formats of a hyphenated list such as `mini_npz-glb`, in its order, each once.

    Raises:
        InputError: a name that is not in `EXPORTERS`.
    """
    names = tuple(dict.fromkeys(export_format.split("-")))
    for name in names:
        if name not in EXPORTERS:
            raise InputError(
                f"unknown export format {name!r} in {export_format!r}: use one or more of "
                f"{', '.join(EXPORTERS)}, joined by hyphens"
            )
    return names


def check_formats(export_format: str, **options: Any) -> None:
    """Refuses what is wrong whatever the model.

    Args:
        export_format: hyphenated list of formats.
        **options: as for `export`.

    Raises:
        InputError: an unknown format or option, or a wrong value.
    """
    _resolve_options(parse_formats(export_format), options.pop("export_kwargs", None), options)


def check_request(
    export_format: str,
    model: Capabilities,
    *,
    views: int,
    intrinsics_known: bool = False,
    infer_gs: bool = False,
    export_feat_layers: Sequence[int] | None = None,
    images_are_paths: bool = True,
    poses_from_features: bool = False,
    export_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    **named: Any,
) -> tuple[str, ...]:
    """Refuses, before any work, what `export` would refuse after the model has run.

    Args:
        export_format: hyphenated list of formats.
        model: what the model can do.
        views: number of images.
        intrinsics_known: whether the caller gave intrinsics.
        infer_gs: whether Gaussians are asked for.
        export_feat_layers: the layers whose features are asked for.
        images_are_paths: whether every image has a file name.
        poses_from_features: whether cameras are sought by matching features, whatever the model.
        export_kwargs, **named: options as for `export`.

    Returns:
        The formats.

    Raises:
        InputError: an unknown format or option, a wrong value, a format that this model or these arguments cannot
            feed, or a package that is not installed.
    """
    formats = parse_formats(export_format)
    options = _resolve_options(formats, export_kwargs, named)
    has_poses = model.has_poses or poses_from_features
    available: dict[Need, bool] = {
        "images": True,
        "poses": has_poses,
        "cameras": has_poses or (views == 1 and intrinsics_known),
        "gaussians": model.has_gaussians and infer_gs,
        "features": bool(export_feat_layers),
        "names": images_are_paths,
    }
    for name in formats:
        _check(name, options[name], available, model.name)
    return formats


def export(
    prediction: "Prediction",
    export_dir: str | os.PathLike[str],
    export_format: str,
    *,
    export_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    **named: Any,
) -> dict[str, list[Path]]:
    """Writes a prediction in every format of a hyphenated list; all files are complete on return.

    Args:
        prediction: left as it is.
        export_dir: created when absent. Files of the same name are replaced, others stay.
        export_format: e.g. `mini_npz-glb`.
        export_kwargs: options by format, e.g. `{"glb": {"sky": "far"}}`.
        **named: the options of `NAMED_OPTIONS`; `export_kwargs` goes before them, None stands for the default.

    Returns:
        The written files of each format, sorted. Views that could not be placed are missing in formats that hold
        poses, see `left_out`; every map has files of its own, see `maps.each_map`.

    Raises:
        InputError: as `check_request`, by what the prediction holds, or no view could be placed and no format can do
            without; nothing has been written then.
    """
    formats = parse_formats(export_format)
    options = _resolve_options(formats, export_kwargs, named)
    available = _held_by(prediction)
    if _is_lost(prediction) and any(not _is_empty_without_poses(name, options[name]) for name in formats):
        available |= {"poses": True, "cameras": True}  # sought in vain: what needs none is written all the same
    for name in formats:
        _check(name, options[name], available, "this prediction")
    needed = {need for name in formats for need in EXPORTERS[name].needs}
    if prediction.intrinsics is None and needed & {"cameras", "poses"}:
        log.warning("proportions are a guess: no intrinsics are known, and a field of view of 60 degrees is assumed")
    folder = Path(export_dir)
    with ExitStack() as made:
        try:
            made.enter_context(opened(folder, make=True))
        except OSError as error:
            raise InputError(
                f"cannot make the export folder {str(folder)!r} ({error.strerror}): choose another"
            ) from error
        return {name: _write(prediction, folder, name, options[name]) for name in formats}


def left_out(prediction: "Prediction", export_format: str, unplaced: tuple[int, Sequence[str]] = (0, ())) -> str | None:
    """What files of these formats lack because views could not be placed in one map, in one sentence, or None.

    Args:
        unplaced: how many views of a whole session have no pose, of which the prediction may hold some, and the names
            of a few.
    """
    formats = [name for name in parse_formats(export_format) if EXPORTERS[name].poses]
    if unplaced[0] and formats and prediction.maps:
        return said_of_others(*unplaced, formats)
    return said_of_views(prediction, formats)


def _is_lost(prediction: "Prediction") -> bool:
    """Whether poses of several views were sought and none found."""
    return prediction.segments is not None and not prediction.placed.any() and len(prediction.depth) > 1


def _is_empty_without_poses(name: str, options: Any) -> bool:
    return bool({"poses", "cameras"} & set(EXPORTERS[name].needs)) and not getattr(options, "export_depth_vis", False)


def _resolve_options(
    formats: Sequence[str], export_kwargs: Mapping[str, Mapping[str, Any]] | None, named: Mapping[str, Any]
) -> dict[str, Any]:
    """Options of each format: `export_kwargs` over named arguments over defaults."""
    values: dict[str, dict[str, Any]] = {name: {} for name in formats}
    for argument, value in named.items():
        for name, option in NAMED_OPTIONS[argument]:
            if name in values and value is not None:
                values[name][option] = value
    for name, given in (export_kwargs or {}).items():
        parse_formats(name)
        values.setdefault(name, {}).update(given)
    if "depth_vis" in formats and "glb" in formats:
        values["glb"]["export_depth_vis"] = False  # both write the same files; the format's own options count
    return {name: build_options(options_of(name), given, name) for name, given in values.items()}


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def _check(name: str, options: Any, available: Mapping[Need, bool], source: str) -> None:
    for need in EXPORTERS[name].needs:
        given_as_option = need == "names" and options.image_names is not None
        if not available[need] and not given_as_option:
            raise InputError(f"{source} cannot be exported as {name!r}, which needs {_REMEDIES[need]}")
    for package in EXPORTERS[name].packages:
        if find_spec(package) is None:
            raise InputError(
                f"export format {name!r} needs the package {package!r}, which is not installed: "
                f"pip install 'da3_ros[{EXPORTERS[name].extra}]'"
            )


def _held_by(prediction: "Prediction") -> dict[Need, bool]:
    has_cameras = prediction.usable_intrinsics is not None
    has_poses = prediction.extrinsics is not None and has_cameras
    return {
        "images": prediction.processed_images is not None,
        "poses": has_poses,
        "cameras": has_poses or (len(prediction.depth) == 1 and has_cameras),
        "gaussians": prediction.gaussians is not None,
        "features": any(key.startswith("feat_layer_") for key in prediction.aux),
        "names": prediction.image_names is not None,
    }


def _write(prediction: "Prediction", folder: Path, name: str, options: Any) -> list[Path]:
    """Writes one format aside and moves the finished files into the folder."""
    with staged(folder) as staging:
        _module(name).write(prediction, staging, options)
        files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
    return [folder / file for file in files]
