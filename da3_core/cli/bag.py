# SPDX-License-Identifier: Apache-2.0
"""`da3 bag`: a recording of ROS 1 or ROS 2 in, a recording of the results out, without ROS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from da3_core.bag.options import BagOptions, IntrinsicsSource, PointOptions, PoseSource, ScaleChoice, Storage
from da3_core.cli.arguments import ModelArguments, flatten_arguments
from da3_core.cli.failures import failures_reported
from da3_core.options import InferenceOptions, RefViewStrategy


@dataclass(frozen=True)
class BagArguments:
    """Which images of the bag are used, how, and what is written."""

    image_topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Image or CompressedImage; give several, one by one, for the cameras of a rig.",
            show_default="the one with pictures",
        ),
    ] = None
    camera_info_topic: Annotated[
        list[str] | None,
        typer.Option(
            help="Calibration; one for every --image-topic, in their order.",
            show_default="camera_info beside the images",
        ),
    ] = None
    sync_slop: Annotated[
        float, typer.Option(min=0, help="How far stamps of a rig's images of one instant may be apart; seconds.")
    ] = BagOptions.sync_slop_s
    start: Annotated[float, typer.Option(min=0, help="Seconds into the bag.")] = BagOptions.start_s
    duration: Annotated[float | None, typer.Option(min=1e-9, help="Seconds of the bag.", show_default="to its end")] = (
        BagOptions.duration_s
    )
    every: Annotated[int, typer.Option(min=1, help="Take every n-th image.")] = BagOptions.every
    fps: Annotated[
        float | None, typer.Option(min=1e-6, help="Images taken per second of their stamps.", show_default="all")
    ] = BagOptions.fps
    window: Annotated[int, typer.Option(min=1, max=64, help="Views inferred together; of a rig, instants.")] = (
        BagOptions.window
    )
    stride: Annotated[int, typer.Option(min=1, max=64, help="New views per inference.")] = BagOptions.stride
    ref_view_strategy: Annotated[
        RefViewStrategy, typer.Option(help="How the view that others refer to is chosen, from 3 views on.")
    ] = InferenceOptions.ref_view_strategy
    max_gap: Annotated[float, typer.Option(min=0, help="A longer gap between stamps starts a new map; seconds.")] = (
        BagOptions.max_gap_s
    )
    intrinsics: Annotated[
        IntrinsicsSource,
        typer.Option(help="auto: CameraInfo where it is calibrated, else the model's estimate; or one of the two."),
    ] = BagOptions.intrinsics
    pose_source: Annotated[
        PoseSource,
        typer.Option(
            help="tf: poses of the cameras in --odom-frame by the bag's transforms; rig: of the cameras of a rig among "
            "each other by /tf_static; auto: rig where it is known; none."
        ),
    ] = BagOptions.pose_source
    odom_frame: Annotated[str, typer.Option(help="Frame that --pose-source tf takes poses in.")] = BagOptions.odom_frame
    pose_required: Annotated[
        bool, typer.Option("--pose-required", help="Leave out images that --pose-source tf knows no pose of.")
    ] = BagOptions.pose_required
    scale: Annotated[
        ScaleChoice,
        typer.Option(
            help="poses: metres where poses are known; model: where the model predicts them; auto: by poses, else by "
            "the model; none: the model's unit."
        ),
    ] = BagOptions.scale
    metres_per_unit: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e6, help="Metres per unit of the model, instead of --scale.", show_default="no"),
    ] = BagOptions.metres_per_unit
    confidence_floor: Annotated[
        float, typer.Option(min=0, help="Less confident depth becomes NaN; confidence is at least 1.")
    ] = BagOptions.confidence_floor
    map_frame: Annotated[str, typer.Option(help="Frame of poses and transforms.")] = BagOptions.map_frame
    points: Annotated[bool, typer.Option("--points", help="Write clouds to /da3/points.")] = False
    points_stride: Annotated[int, typer.Option(min=1, max=1000, help="Of clouds, take every n-th row and column.")] = (
        PointOptions.stride
    )
    points_min_depth: Annotated[float, typer.Option(min=0, help="Leave out nearer points; metres.")] = (
        PointOptions.min_depth_m
    )
    points_max_depth: Annotated[float, typer.Option(min=0, help="Leave out farther points; metres, 0 is no limit.")] = (
        PointOptions.max_depth_m
    )
    points_confidence_percentile: Annotated[
        float, typer.Option(min=0, max=99, help="Leave out this share of each image's pixels, the least confident; %.")
    ] = PointOptions.confidence_percentile
    points_edge_threshold: Annotated[
        float, typer.Option(min=0, help="Leave out pixels whose depth jumps by more than this share; 0 keeps them.")
    ] = PointOptions.edge_threshold
    points_organized: Annotated[bool, typer.Option(help="Keep rows and columns, NaN where there is no point.")] = (
        PointOptions.organized
    )
    points_color: Annotated[bool, typer.Option(help="Give points the colour of their pixel.")] = PointOptions.color
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
        """Raises InputError for choices that contradict each other."""
        return BagOptions(
            image_topics=tuple(self.image_topic or ()),
            camera_info_topics=tuple(self.camera_info_topic or ()),
            sync_slop_s=self.sync_slop,
            start_s=self.start,
            duration_s=self.duration,
            every=self.every,
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            max_gap_s=self.max_gap,
            intrinsics=self.intrinsics,
            pose_source=self.pose_source,
            odom_frame=self.odom_frame,
            pose_required=self.pose_required,
            scale=self.scale,
            metres_per_unit=self.metres_per_unit,
            confidence_floor=self.confidence_floor,
            map_frame=self.map_frame,
            points=self._point_options() if self.points else None,
            window_messages=self.window_messages,
            copy_topics=self.copy_topics,
        )

    def _point_options(self) -> PointOptions:
        return PointOptions(
            stride=self.points_stride,
            min_depth_m=self.points_min_depth,
            max_depth_m=self.points_max_depth,
            confidence_percentile=self.points_confidence_percentile,
            edge_threshold=self.points_edge_threshold,
            organized=self.points_organized,
            color=self.points_color,
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
