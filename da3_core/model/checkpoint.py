# SPDX-License-Identifier: Apache-2.0
"""Checkpoint folders: `config.json` with the `model_name`, and `model.safetensors`, read strictly, written atomically.

Tensor names are those of a module that holds the network as its attribute `model`. Of parameters that are one and the
same, only the alphabetically first is stored.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from da3_core.errors import InputError
from da3_core.model.presets import PRESETS, Preset, find_preset
from da3_core.storage.staging import staged

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, TENSORS = "config.json", "model.safetensors"

_log = logging.getLogger(__name__)


def open_folder(folder: Path) -> tuple[Preset, Path]:
    """The model and the safetensors file of a checkpoint folder.

    Raises:
        InputError: there is no such file, or it cannot be told which model it is for.
    """
    path = folder / TENSORS
    if not path.is_file():
        raise InputError(f"{folder} holds no {TENSORS}: pass the folder of a checkpoint, a model name or a hub id")
    config = folder / CONFIG
    return (read_model_name(config) if config.is_file() else None) or _guess_preset(path), path


def read_model_name(config: Path) -> Preset | None:
    """The model that a `config.json` names, or None if it names none."""
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{config} cannot be read as JSON ({error}): download it again or delete it") from error
    name = fields.get("model_name") if isinstance(fields, dict) else None
    return find_preset(name) if isinstance(name, str) else None


def load_into(module: nn.Module, path: Path) -> None:
    """Fill every parameter of a module from a file, converted to the type and layout it has there.

    Raises:
        InputError: the file is damaged, lacks a tensor or has one of another shape. The module is then unchanged.
    """
    parameters = _parameters(module)
    stored = tensor_shapes(path)
    wanted = {next((name for name in names if name in stored), names[0]): tuple(p.shape) for names, p in parameters}
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(wanted)} tensors of this model, such as {missing[0]}: "
            "it is incomplete or belongs to another model"
        )
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise InputError(
                f"{path} has {name} in shape {stored[name]} where this model has {shape}: it belongs to another model"
            )
    extra = stored.keys() - {name for names, _ in parameters for name in names}
    if extra:
        _log.warning("%s: ignored %d tensors that the model does not have, such as %s", path, len(extra), min(extra))
    with _open(path) as file:
        module.load_state_dict({name: file.get_tensor(name) for name in wanted}, strict=False)


def leave_on_disk(module: nn.Module, part: nn.Module, path: Path) -> None:
    """Let a part of a module, on the CPU, have its parameters in the file that `load_into` filled them from.

    They take memory no more, until something reads them.
    """
    theirs = {id(parameter) for parameter in part.parameters()}
    try:
        with _open(path) as file:
            stored = set(file.keys())
            for names, parameter in _parameters(module):
                name = next((name for name in names if name in stored), None)
                if name is not None and id(parameter) in theirs:
                    tensor = file.get_tensor(name)
                    if tensor.dtype == parameter.dtype and tensor.shape == parameter.shape:
                        parameter.data = tensor
    except InputError as error:
        _log.warning("the weights stay in memory: %s", error)


def save(module: nn.Module, preset: Preset, folder: str | os.PathLike[str]) -> None:
    """Write a checkpoint folder that `open_folder` and the official library read; no half-written file survives.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    tensors = {names[0]: parameter.detach().cpu().contiguous() for names, parameter in _parameters(module)}
    config = json.dumps({"model_name": preset.architecture}, indent=2) + "\n"
    try:
        with staged(folder) as staging:
            save_file(tensors, staging / TENSORS, metadata={"format": "pt"})
            (staging / CONFIG).write_text(config, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot write weights to {folder} ({error}): choose another folder or make room") from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a file, from its head alone."""
    with _open(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and fetch it again") from error


def _parameters(module: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Every parameter once, with all its names in alphabetical order."""
    names: dict[int, tuple[list[str], Tensor]] = {}
    for name, parameter in sorted(module.state_dict(keep_vars=True).items()):
        names.setdefault(id(parameter), ([], parameter))[0].append(name)
    return list(names.values())


def _guess_preset(path: Path) -> Preset:
    """The model whose tensors a file holds, by name and shape; of several, the one that uses most of them."""
    import torch
    from torch import nn

    from da3_core.network import build_network

    stored = tensor_shapes(path)
    fitting: dict[int, list[Preset]] = {}
    for preset in PRESETS.values():
        if preset.name == preset.architecture:
            with torch.device("meta"):
                parameters = _parameters(nn.ModuleDict({"model": build_network(preset.network)}))
            if all(stored.get(names[0]) == tuple(parameter.shape) for names, parameter in parameters):
                fitting.setdefault(len(parameters), []).append(preset)
    best = fitting[max(fitting)] if fitting else []
    if len(best) != 1:
        fit = " and ".join(preset.name for preset in best) or "none of the models"
        raise InputError(
            f"{path.parent} has no {CONFIG} with a model_name, and its tensors fit {fit}: "
            f'write {{"model_name": ...}} there with one of {", ".join(PRESETS)}'
        )
    return best[0]
