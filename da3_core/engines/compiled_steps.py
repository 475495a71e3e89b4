# SPDX-License-Identifier: Apache-2.0
"""Converted steps, kept in memory for the shapes in use and in the user's cache for the next start.

A file of the cache is used only if it is the user's own, and whole: its name is a digest of everything it depends on
(weights, shapes, precision, engine, version, machine), and its content must have the digest that was noted when it was
written. Anything else is made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from da3_core.engines.runtime import Compiled, Runtime
from da3_core.storage.staging import staged_file, write_atomically

KEPT_BYTES = 8 * 2**30  # of the cache; the oldest files make place
KEPT_STEPS = 24  # in memory
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class CompiledSteps:
    """Steps of one network in one runtime.

    Attributes:
        runtime: what converts and runs them.
        weights: digest of the network's weights.
        folder: of the cache.
        scope: which part of the network this is about.
    """

    runtime: Runtime
    weights: str
    folder: Path
    scope: str = ""
    _loaded: OrderedDict[str, Compiled] = field(default_factory=OrderedDict)

    def below(self, name: str) -> CompiledSteps:
        """The steps of a part of the network."""
        return replace(self, scope=f"{self.scope}{name}.")

    def get(
        self, kind: str, variant: object, make: Callable[[], nn.Module], example: tuple[Tensor, ...], *, backbone: bool
    ) -> Compiled:
        """The step `make()` for inputs like `example`, from memory, from the cache, or converted now."""
        precision = self.runtime.precision if backbone else "float32"
        shapes = [tuple(part.shape) for part in example]
        what = (self.scope + kind, variant, shapes, precision)
        about = (*what, self.weights, self.runtime.name, self.runtime.version, self.runtime.device, _machine())
        key = hashlib.sha256(repr(about).encode()).hexdigest()
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        path = self.folder / f"{key}.step"
        compiled = self._stored(path, precision)
        if compiled is None:
            _log.info("converting %s %s for %s; the next start finds it", what[0], shapes, self.runtime.name)
            start = time.monotonic()
            compiled = self._built(path, make(), example, precision)
            _log.info("converted in %.1f s", time.monotonic() - start)
        self._loaded[key] = compiled
        while len(self._loaded) > KEPT_STEPS:
            self._loaded.popitem(last=False)
        return compiled

    def _stored(self, path: Path, precision: str) -> Compiled | None:
        try:
            status = path.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            if path.with_suffix(".sha256").read_text() != _digest(path):
                return None
            compiled = self.runtime.load(path, precision)
        except FileNotFoundError:
            return None
        except Exception as error:
            _log.warning("the converted step %s cannot be used (%s): it is made again", path, error)
            return None
        os.utime(path)
        return compiled

    def _built(self, path: Path, step: nn.Module, example: tuple[Tensor, ...], precision: str) -> Compiled:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staged_file(path) as part, torch.no_grad(), warnings.catch_warnings():
            step(*example)  # fills the caches of rotary and UV tables, so that tracing finds constants
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # as are sizes
            self.runtime.build(step.eval(), example, part, precision)
            part.chmod(0o600)
            write_atomically(path.with_suffix(".sha256"), _digest(part).encode())
        self._make_place()
        return self.runtime.load(path, precision)

    def _make_place(self) -> None:
        files = sorted(self.folder.glob("*.step"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > KEPT_BYTES:
                file.unlink(missing_ok=True)
                file.with_suffix(".sha256").unlink(missing_ok=True)


def weights_digest(network: nn.Module) -> str:
    """Over names, shapes and values of all parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().float().contiguous(memory_format=torch.contiguous_format).numpy())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _machine() -> tuple[str, ...]:
    """What a compiled step depends on beside its package."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))}
    return platform.machine(), hashlib.sha256("".join(sorted(names)).encode()).hexdigest()[:16]
