# SPDX-License-Identifier: Apache-2.0
"""`da3 bag`: a bag of ROS 1 or ROS 2 in, a bag of the results out, without ROS."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from da3_core.bag.options import BagOptions
from da3_core.cli.arguments import BagOutputArguments, flatten_arguments
from da3_core.cli.failures import failures_reported
from da3_core.cluster.options import ClusterOptions
from da3_core.options import CameraOptions, InferenceOptions, ModelOptions, PointOptions


@flatten_arguments("bag", point_options="points_")
def bag(
    input_bag: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A bag: a folder, or one .mcap, .db3 or (ROS 1) .bag file.")
    ],
    options: BagOptions,
    output: BagOutputArguments,
    point_options: PointOptions,
    inference: InferenceOptions,
    model: ModelOptions,
    camera: CameraOptions,
    cluster: ClusterOptions,
) -> None:
    """Process the images of a ROS bag into a bag with depth, poses and transforms."""
    with failures_reported(output.debug):
        from da3_core.cli.at_hand import model_at_hand  # only now, because these import the network
        from da3_core.cli.run_bag import run_bag

        output.check(point_options)
        options = replace(options, points=point_options if output.points else None)
        run_bag(input_bag, options, output, inference, partial(model_at_hand, model, cluster), camera)
