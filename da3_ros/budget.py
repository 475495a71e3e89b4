# SPDX-License-Identifier: Apache-2.0
"""What an inference may take in memory: fewer views, then fewer pixels, before anything is allocated."""

from dataclasses import replace

from da3_core.errors import InputError
from da3_core.model.memory import needed_bytes
from da3_core.model.presets import Preset
from da3_core.network.config import PATCH_SIZE
from da3_ros.settings import Settings

SMALLEST_RES = 140  # below it, depth is of no use
FLOAT32_BYTES = 4


def inference_bytes(settings: Settings, preset: Preset) -> float:
    """About what one inference takes beside the weights, for images that are as high as wide."""
    views = settings.window.size * max(1, len(settings.camera_names))
    side = settings.process_res or preset.process_res
    return needed_bytes(preset, float(side**2), views, FLOAT32_BYTES)


def fitted(settings: Settings, preset: Preset) -> Settings:
    """The settings with the largest window, then the largest `process_res`, within `memory.budget_mb`.

    Raises:
        InputError: nothing fits.
    """
    budget = settings.memory.budget_mb * 1e6
    if not budget:
        return settings
    smallest_window = min(settings.window.size, max(2, settings.window.stride + 1))
    smaller_windows = range(settings.window.size, smallest_window - 1, -1)
    choices = [(size, settings.process_res) for size in smaller_windows]
    largest_res = settings.process_res or preset.process_res
    choices += [(smallest_window, res) for res in range(largest_res, SMALLEST_RES - 1, -PATCH_SIZE)]
    for size, res in choices:
        choice = replace(settings, window=replace(settings.window, size=size), process_res=res)
        if inference_bytes(choice, preset) <= budget:
            return choice
    size, res = choices[-1]
    least = replace(settings, window=replace(settings.window, size=size), process_res=res)
    raise InputError(
        f"memory.budget_mb is {settings.memory.budget_mb:g}, and windows of {size} images at process_res {res} need "
        f"about {inference_bytes(least, preset) / 1e6:.0f} MB beside the weights; raise it, or choose a smaller model."
    )


def told(asked: Settings, chosen: Settings) -> str | None:
    """What became less, in words; None where nothing did."""
    if chosen == asked:
        return None
    less = f"windows of {chosen.window.size} images instead of {asked.window.size}"
    if chosen.process_res != asked.process_res:
        less += f", at process_res {chosen.process_res} instead of {asked.process_res or 'that of the model'}"
    return f"memory.budget_mb is {asked.memory.budget_mb:g}: {less}."
