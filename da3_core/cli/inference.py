# SPDX-License-Identifier: Apache-2.0
"""`da3 auto`, `image`, `images`, `video` and `colmap`: from an input to results."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from da3_core.cli.arguments import (
    BackendArguments,
    ColmapArguments,
    OutputArguments,
    VideoArguments,
    flatten_arguments,
)
from da3_core.cli.failures import FAILED, failures_reported
from da3_core.cluster.options import ClusterOptions
from da3_core.errors import InputError, OptionError
from da3_core.options import CameraOptions, ModelOptions, SceneOptions
from da3_core.sources import Source
from da3_core.sources.detect import describe_inputs, detect
from da3_core.sources.images import IMAGE_EXTENSIONS, open_folder, open_image, parse_extensions
from da3_core.sources.video import open_video


@flatten_arguments("command")
def auto(
    input_path: Annotated[
        Path, typer.Argument(metavar="INPUT_PATH", help="An image, a folder of images, a video or a COLMAP folder.")
    ],
    model: ModelOptions,
    options: SceneOptions,
    camera: CameraOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
    video: VideoArguments,
    colmap: ColmapArguments,
) -> None:
    """Detect the kind of input and process it."""
    with failures_reported(output.debug):
        kind = detect(input_path)
        if kind is None:
            problem = "is of no known kind" if input_path.exists() else "does not exist"
            typer.echo(f"error: {input_path} {problem}: give {describe_inputs()}", err=True)
            raise typer.Exit(FAILED)
        typer.echo(f"{kind.upper()}: {input_path}", err=True)
        if kind == "image":
            _run(open_image(input_path), model, options, output, backend, cluster, camera)
        elif kind == "images":
            _run(open_folder(input_path), model, options, output, backend, cluster, camera)
        elif kind == "video":
            source = open_video(input_path, video.sampling(), video.frame_format)
            _run(source, model, options, output, backend, cluster, camera)
        else:
            if camera.is_given:
                raise InputError(f"{input_path} is a COLMAP folder, which brings its cameras: give no others")
            _run_colmap(input_path, colmap, model, options, output, backend, cluster)


@flatten_arguments("command")
def image(
    image_path: Annotated[Path, typer.Argument(metavar="IMAGE_PATH", help="An image file.")],
    model: ModelOptions,
    options: SceneOptions,
    camera: CameraOptions,
    output: OutputArguments,
    backend: BackendArguments,
) -> None:
    """Process a single image."""
    with failures_reported(output.debug):
        _run(open_image(image_path), model, options, output, backend, ClusterOptions(), camera)


@flatten_arguments("command")
def images(
    images_dir: Annotated[
        Path, typer.Argument(metavar="IMAGES_DIR", help="A folder of images, views of one scene in natural order.")
    ],
    model: ModelOptions,
    options: SceneOptions,
    camera: CameraOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
    image_extensions: Annotated[str, typer.Option(help="Which files count as images.")] = ",".join(IMAGE_EXTENSIONS),
) -> None:
    """Process a folder of images."""
    with failures_reported(output.debug):
        source = open_folder(images_dir, parse_extensions(image_extensions))
        _run(source, model, options, output, backend, cluster, camera)


@flatten_arguments("command")
def video(
    video_path: Annotated[Path, typer.Argument(metavar="VIDEO_PATH", help="A video file.")],
    video: VideoArguments,
    model: ModelOptions,
    options: SceneOptions,
    camera: CameraOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
) -> None:
    """Process frames of a video."""
    with failures_reported(output.debug):
        source = open_video(video_path, video.sampling(), video.frame_format)
        _run(source, model, options, output, backend, cluster, camera)


@flatten_arguments("command")
def colmap(
    colmap_dir: Annotated[Path, typer.Argument(metavar="COLMAP_DIR", help="A folder with images/ and sparse/ in it.")],
    colmap: ColmapArguments,
    model: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
) -> None:
    """Process the images of a COLMAP reconstruction with its cameras."""
    with failures_reported(output.debug):
        _run_colmap(colmap_dir, colmap, model, options, output, backend, cluster)


def _run_colmap(
    folder: Path,
    colmap: ColmapArguments,
    model: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
) -> None:
    from da3_core.sources.colmap import open_colmap

    source = open_colmap(folder, colmap.sparse_subdir, undistort=colmap.undistort, alpha=colmap.rectify_alpha)
    options = replace(options, align_to_input_ext_scale=colmap.align_to_input_ext_scale)
    _run(source, model, options, output, backend, cluster)


def _run(
    source: Source,
    model: ModelOptions,
    options: SceneOptions,
    output: OutputArguments,
    backend: BackendArguments,
    cluster: ClusterOptions,
    camera: CameraOptions | None = None,
) -> None:
    from da3_core.sources.given_camera import given_camera

    given = None if camera is None else given_camera(camera, apply_exif=options.apply_exif)
    # Only now, because one imports the network and neither helps `--help`.
    if backend.use_backend:
        if cluster.is_wanted:
            raise OptionError("{workers} came with {use_backend}, which has its own process: leave one of them out")
        from da3_core.cli.submit import submit

        submit(source, model, options, output, backend, given)
    else:
        from da3_core.cli.at_hand import model_at_hand
        from da3_core.cli.run import run

        run(source, model, options, output, partial(model_at_hand, model, cluster), given)
