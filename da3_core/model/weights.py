# SPDX-License-Identifier: Apache-2.0
"""From a name to a network with checked weights: folders, the Hugging Face hub and its cache, licences."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from da3_core.errors import InputError
from da3_core.model.checkpoint import CONFIG, TENSORS, leave_on_disk, load_into, open_folder, read_model_name, save
from da3_core.model.presets import EMBEDDED, PRESETS, Preset, find_preset
from da3_core.options import DEFAULT_MODEL, ModelOptions, WeightsLicence, check_options

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LoadedWeights", "identify", "leave_on_disk", "load", "resolve", "save"]

Module = TypeVar("Module", bound="nn.Module")
Answer = TypeVar("Answer")

_BEST_FREE = "da3-base"  # the largest any-view model whose weights are free for any use
_UNTRAINED = "untrained:"
_HUB_ANSWER_S = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedWeights:
    """Where the weights of a model are.

    Attributes:
        preset: the model.
        path: its safetensors file, or None for a model that is meant to stay untrained.
        licence: SPDX identifier.
        source: what the caller asked for; instead of `auto`, the model that it became.
        warning: what a user must be told about it, in one sentence, or None.
    """

    preset: Preset
    path: Path | None
    licence: str
    source: str
    warning: str | None = None


def resolve(
    source: str | os.PathLike[str],
    *,
    weights_licence: WeightsLicence = "any",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> LoadedWeights:
    """Find weights; what is on the hub and not yet in its cache is downloaded with a progress bar.

    Args:
        source: a folder, a preset name, `embedded`, a hub id, `untrained:<preset>` (fixed random weights, to try out
            everything but the quality), or `auto`: DA3-BASE, the largest any-view model free for any use, where it is
            cached or the hub answers within seconds, else `embedded` with a warning. No other name falls back.
        weights_licence: `permissive` refuses weights that forbid commercial use, before they are downloaded.
        revision: branch, tag or commit on the hub.
        cache_dir: where files of the hub are kept, if not where its client keeps them.
        local_files_only: never ask the hub. `HF_HUB_OFFLINE=1` does the same; `HF_ENDPOINT` names a mirror.

    Raises:
        InputError: the source is unknown, incomplete or not permitted, or the hub does not answer.
    """
    check_options(ModelOptions, {"weights_licence": weights_licence})
    name = os.fspath(source)
    hub = _Hub(revision, None if cache_dir is None else Path(cache_dir), local_files_only)
    weights = _default(hub) if name == DEFAULT_MODEL else _named(name, hub, weights_licence)
    preset = weights.preset
    _log.info("%s: weights from %s, licence %s", preset.name, weights.path or "a random generator", preset.licence)
    if weights.warning:
        _log.warning(weights.warning)
    elif preset.name == EMBEDDED and weights.path:
        _log.info("%s gives soft depth without a unit; its camera poses come from matching features", preset.name)
    return weights


def identify(source: str, *, weights_licence: WeightsLicence = "any") -> Preset:
    """The model that `resolve` would find, without its weights; of `auto` the one that it would rather take.

    Raises:
        InputError: as `resolve`; the hub is asked for the `config.json` of models that only it knows.
    """
    if source == DEFAULT_MODEL:
        return PRESETS[_BEST_FREE]
    if source.startswith(_UNTRAINED):
        return find_preset(source.removeprefix(_UNTRAINED))
    if source != "embedded" and Path(source).is_dir():
        preset, _ = open_folder(Path(source))
    elif _is_foreign_hub_id(source):
        preset = _named_preset(source, _Hub(None, None, False).fetch(source, CONFIG))
    else:
        preset = find_preset(source)
    _check_licence(preset, weights_licence)
    return preset


def cached(preset: Preset) -> Path | None:
    """What this machine has of its weights already: the file that a hub would otherwise be asked for, or None."""
    if preset.name == EMBEDDED:
        from da3_core.model.embedded import found_here

        return found_here(lambda: _Hub(None, None, True).cached(preset.hub_id, TENSORS))
    return _Hub(None, None, True).cached(preset.hub_id, TENSORS)


def foresee_auto() -> tuple[Preset, str]:
    """What `auto` would be now, and why; the hub is asked for an answer, and nothing is downloaded."""
    best, hub = PRESETS[_BEST_FREE], _Hub(None, None, False)
    if hub.cached(best.hub_id, TENSORS):
        return best, "its weights are in the cache"
    try:
        hub.ask(best.hub_id, TENSORS)
    except InputError as error:
        return PRESETS[EMBEDDED], str(error)
    return best, f"the hub has it, {best.weights_bytes / 1e9:.1f} GB"


def _named(name: str, hub: _Hub, weights_licence: WeightsLicence) -> LoadedWeights:
    """Exactly what was asked for."""
    path: Path | None
    if name.startswith(_UNTRAINED):
        preset, path = find_preset(name.removeprefix(_UNTRAINED)), None
    elif name != "embedded" and Path(name).is_dir():
        preset, path = open_folder(Path(name))
        _check_licence(preset, weights_licence)
    elif _is_foreign_hub_id(name):
        preset = _named_preset(name, hub.fetch(name, CONFIG))
        _check_licence(preset, weights_licence)
        path = hub.fetch(name, TENSORS)
    else:
        preset = find_preset(name)
        _check_licence(preset, weights_licence)
        path = _embedded_file(hub, hub.may_download) if preset.name == EMBEDDED else hub.fetch(preset.hub_id, TENSORS)
    return LoadedWeights(preset, path, preset.licence, name)


def _default(hub: _Hub) -> LoadedWeights:
    """The best model that can be had; both candidates may be used for anything."""
    best, embedded = PRESETS[_BEST_FREE], PRESETS[EMBEDDED]
    try:
        return LoadedWeights(best, hub.fetch(best.hub_id, TENSORS), best.licence, best.name)
    except InputError as error:
        refusal = error
    try:  # the hub has had its chance
        path = _embedded_file(replace(hub, revision=None, local_files_only=True), hub.may_download)
    except InputError as error:
        raise InputError(f"no default model is to be had: {refusal}; and {error}") from error
    warning = f"the accuracy of {embedded.name} is that of a demonstration; auto took it because {refusal}"
    return LoadedWeights(embedded, path, embedded.licence, embedded.name, warning)


def load(build: Callable[[], Module], weights: LoadedWeights) -> Module:
    """What `build` makes, on the CPU and in float32, with the weights in it. Its attribute `model` is the network.

    Raises:
        InputError: the file is damaged or does not fit the model.
    """
    import torch

    from da3_core.network.untrained import initialise_untrained

    with torch.device("meta"):  # nothing is initialised that the weights overwrite
        module = build()
    module.to_empty(device="cpu")
    if weights.path is None:
        initialise_untrained(module)
    else:
        load_into(module, weights.path)
    return module


@dataclass(frozen=True)
class _Hub:
    """Files of the Hugging Face hub: from the cache if they are there, else over the network."""

    revision: str | None
    cache_dir: Path | None
    local_files_only: bool

    @property
    def may_download(self) -> bool:
        from huggingface_hub import constants

        return not (self.local_files_only or constants.HF_HUB_OFFLINE)

    def cached(self, repository: str, file: str) -> Path | None:
        """
        Raises:
            InputError: no repository can have this name.
        """
        import huggingface_hub as hub

        try:
            path = hub.try_to_load_from_cache(repository, file, cache_dir=self.cache_dir, revision=self.revision)
        except hub.errors.HFValidationError as error:
            raise InputError(f"{repository!r} is neither a folder nor a name that the hub allows") from error
        return Path(path) if isinstance(path, str) else None

    def ask(self, repository: str, file: str) -> None:
        """Return if the hub would give the file.

        Raises:
            InputError: it has none, does not answer within seconds, or is not to be asked.
        """
        import huggingface_hub as hub

        if not self.may_download:
            raise InputError(
                f"{file} of {repository} is not in the cache and downloads are switched off: "
                "allow them once or pass a folder with the weights"
            )
        try:
            url = hub.hf_hub_url(repository, file, revision=self.revision)
            _within(_HUB_ANSWER_S, lambda: hub.get_hf_file_metadata(url, timeout=_HUB_ANSWER_S))
        except Exception as error:  # the HTTP library below the client, and so its errors, depends on its version
            raise InputError(_explain(error, f"{file} of {repository}")) from error

    def fetch(self, repository: str, file: str) -> Path:
        """
        Raises:
            InputError: as `cached` and `ask`, or the download failed.
        """
        import huggingface_hub as hub

        if path := self.cached(repository, file):
            return path
        self.ask(repository, file)  # the client would retry a dead connection for minutes
        try:
            return Path(hub.hf_hub_download(repository, file, revision=self.revision, cache_dir=self.cache_dir))
        except Exception as error:
            raise InputError(_explain(error, f"{file} of {repository}")) from error


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """The answer of `ask`, which may hang in the resolution of names, where no timeout of a client reaches.

    Raises:
        TimeoutError: there was none in time. The thread that waits for it does not keep the process alive.
    """
    answer: futures.Future[Answer] = futures.Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return answer.result(seconds)
    except futures.TimeoutError as error:  # another class than the built-in one before Python 3.11
        raise TimeoutError(f"no answer within {seconds:g} s") from error


def _explain(error: Exception, what: str) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"{what} is given out on request: ask for access on the hub, then set HF_TOKEN"
    absent = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, absent) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"the hub has no {what}: check the name and the revision"
    reason = str(error).splitlines()[0] if str(error) else "no answer"
    return (
        f"cannot fetch {what} from {constants.ENDPOINT} ({reason}): connect to the internet, set HF_ENDPOINT to a "
        "mirror, or pass a folder with the weights"
    )


def _embedded_file(hub: _Hub, may_download: bool) -> Path:
    """Most of these weights come with the package; only DINOv2 may have to be fetched."""
    from da3_core.model.embedded import DINOV2_HUB_ID, find_weights

    return find_weights(lambda: hub.fetch(DINOV2_HUB_ID, TENSORS), may_download=may_download)


def _is_foreign_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and name.lower().split("/")[1] not in PRESETS


def _named_preset(source: str, config: Path) -> Preset:
    preset = read_model_name(config)
    if preset is None:
        raise InputError(f"{CONFIG} of {source} has no model_name: it is not a Depth Anything 3 model")
    return preset


def _check_licence(preset: Preset, weights_licence: WeightsLicence) -> None:
    if weights_licence == "permissive" and not preset.is_permissive:
        free = ", ".join(p.name for p in PRESETS.values() if p.is_permissive)
        raise InputError(
            f"the weights of {preset.name} are under {preset.licence}, which weights_licence='permissive' refuses: "
            f"use one of {free}, or weights_licence='any'"
        )
