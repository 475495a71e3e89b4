# SPDX-License-Identifier: Apache-2.0
"""`da3 batch`: many recordings with one model, or with the same workers."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from da3_core.bag.options import BagOptions
from da3_core.cli.arguments import Debug, Json, flatten_arguments
from da3_core.cli.failures import failures_reported
from da3_core.cluster.options import ClusterOptions
from da3_core.options import ModelOptions, SceneOptions


@flatten_arguments("command")
def batch(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Bags, videos, folders of images, and folders of these."),
    ],
    model: ModelOptions,
    options: SceneOptions,
    bag: BagOptions,
    cluster: ClusterOptions,
    output_dir: Annotated[Path, typer.Option(help="Folder of the results, each by the name of its input.")] = Path(
        "da3_batch"
    ),
    retries: Annotated[int, typer.Option(help="Further tries of a recording that failed.", min=0)] = 1,
    at_once: Annotated[
        int,
        typer.Option(help="Most recordings under way while workers have too little to do; without workers one.", min=1),
    ] = 4,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Process many recordings; the same command again goes on where it was."""
    with failures_reported(debug):
        from da3_core.cli.at_hand import model_at_hand  # only now, because these import the network
        from da3_core.cli.run_batch import run_batch

        open_model = partial(model_at_hand, model, cluster)
        run_batch(inputs, output_dir, model, options, bag, open_model, retries=retries, at_once=at_once, as_json=json)
