# SPDX-License-Identifier: Apache-2.0
"""Loading the model that the command line names."""

from __future__ import annotations

import logging

import typer

from da3_core.api import DepthAnything3
from da3_core.cli.failures import FAILED, report
from da3_core.errors import InputError
from da3_core.model.device import choose_device
from da3_core.options import ModelOptions

logger = logging.getLogger(__name__)


def load_model(options: ModelOptions) -> DepthAnything3:
    """The model on its device.

    Raises:
        InputError: unknown model, missing or refused weights.
        typer.Exit: the device is not there (code 1, as for everything that works on another machine).
    """
    try:
        device = choose_device(options.device)
    except InputError as error:
        report(error)
        raise typer.Exit(FAILED) from None
    model = DepthAnything3.from_options(options)
    logger.info("%s on %s by %s", model.preset.name, device, model.engine)
    return model
