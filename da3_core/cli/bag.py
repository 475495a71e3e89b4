# SPDX-License-Identifier: Apache-2.0
"""`da3 bag`: a recording of ROS 1 or ROS 2 in, a recording of the results out, without ROS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from da3_core.bag.options import BagOptions, IntrinsicsSource, PointOptions, ScaleChoice, Storage
from da3_core.cli.arguments import ModelArguments, flatten_arguments
from da3_core.cli.failures import failures_reported


@dataclass(frozen=True)
class BagArguments:
    """Which images of the bag are used, how, and what is written."""

    image_topic: Annotated[
        str | None, typer.Option(help="Image or CompressedImage.", show_default="the one with pictures")
    ] = BagOptions.image_topic
    camera_info_topic: Annotated[
        str | None, typer.Option(help="Calibration of the camera.", show_default="camera_info beside the images")
    ] = BagOptions.camera_info_topic
    start: Annotated[float, typer.Option(min=0, help="Seconds into the bag.")] = BagOptions.start_s
    duration: Annotated[float | None, typer.Option(min=1e-9, help="Seconds of the bag.", show_default="to its end")] = (
        BagOptions.duration_s
    )
    every: Annotated[int, typer.Option(min=1, help="Take every n-th image.")] = BagOptions.every
    fps: Annotated[
        float | None, typer.Option(min=1e-6, help="Images taken per second of their stamps.", show_default="all")
    ] = BagOptions.fps
    window: Annotated[int, typer.Option(min=1, max=64, help="Views inferred together.")] = BagOptions.window
    stride: Annotated[int, typer.Option(min=1, max=64, help="New views per inference.")] = BagOptions.stride
    max_gap: Annotated[float, typer.Option(min=0, help="A longer gap between stamps starts a new map; seconds.")] = (
        BagOptions.max_gap_s
    )
    intrinsics: Annotated[
        IntrinsicsSource,
        typer.Option(help="auto: CameraInfo where it is calibrated, else the model's estimate; or one of the two."),
    ] = BagOptions.intrinsics
    scale: Annotated[
        ScaleChoice, typer.Option(help="auto, model: metres where the model predicts them; none: the model's unit.")
    ] = BagOptions.scale
    metres_per_unit: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e6, help="Metres per unit of the model, instead of --scale.", show_default="no"),
    ] = BagOptions.metres_per_unit
    confidence_floor: Annotated[
        float, typer.Option(min=0, help="Less confident depth becomes NaN; confidence is at least 1.")
    ] = BagOptions.confidence_floor
    map_frame: Annotated[str, typer.Option(help="Frame of poses and transforms.")] = BagOptions.map_frame
    points: Annotated[bool, typer.Option(help="Write clouds to /da3/points.")] = False
    points_stride: Annotated[int, typer.Option(min=1, max=1000, help="Of clouds, take every n-th row and column.")] = (
        PointOptions.stride
    )
    window_messages: Annotated[bool, typer.Option(help="Write /da3/window too, the largest topic by far.")] = (
        BagOptions.window_messages
    )
    copy_topics: Annotated[
        str, typer.Option(help="Topics copied beside the results: all, none or a regular expression.")
    ] = BagOptions.copy_topics
    output_bag: Annotated[
        Path | None, typer.Option(help="Folder of the new bag.", show_default="INPUT_da3 in the current folder")
    ] = None
    storage: Annotated[Storage, typer.Option(help="Format of the new bag.")] = "mcap"
    export_dir: Annotated[
        Path | None, typer.Option(help="Also export up to 200 views of the longest map here.", show_default="no")
    ] = None
    export_format: Annotated[str, typer.Option(help="Formats joined by hyphens, such as glb-tum.")] = "glb"

    def options(self) -> BagOptions:
        return BagOptions(
            image_topic=self.image_topic,
            camera_info_topic=self.camera_info_topic,
            start_s=self.start,
            duration_s=self.duration,
            every=self.every,
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            max_gap_s=self.max_gap,
            intrinsics=self.intrinsics,
            scale=self.scale,
            metres_per_unit=self.metres_per_unit,
            confidence_floor=self.confidence_floor,
            map_frame=self.map_frame,
            points=PointOptions(self.points_stride) if self.points else None,
            window_messages=self.window_messages,
            copy_topics=self.copy_topics,
        )


@flatten_arguments
def bag(
    input_bag: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A bag: a folder, or one .mcap, .db3 or (ROS 1) .bag file.")
    ],
    arguments: BagArguments,
    model: ModelArguments,
) -> None:
    """Process the images of a ROS bag into a bag with depth, poses and transforms."""
    with failures_reported(model.debug):
        from da3_core.cli.run_bag import run_bag  # only now, because it imports the network

        run_bag(input_bag, arguments, model)
