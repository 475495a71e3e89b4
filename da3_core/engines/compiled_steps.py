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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from da3_core.engines.runtime import Compiled, Runtime
from da3_core.errors import InputError
from da3_core.network.torch_private import version_of
from da3_core.storage.staging import staged_file, write_atomically

KEPT_BYTES = 8 * 2**30  # of the cache; the oldest files make place
LOADED_BYTES = 3 * 2**30  # in memory, of more steps than one inference takes
LOADED_STEPS = 6  # that one inference takes: of a nested network with Gaussians
PATIENCE_S = 10.0  # of torch on one step: about what its conversion costs, so that it never costs more than it saves
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Step:
    """One step for one shape.

    Attributes:
        run: None while torch executes it.
        bytes: of the file it was loaded from.
        torch_s: seconds that torch has spent on it.
        waits: whether torch goes on until a conversion pays; false where that failed.
    """

    run: Compiled | None = None
    bytes: int = 0
    torch_s: float = 0.0
    waits: bool = True

    @contextmanager
    def in_torch(self) -> Iterator[None]:
        """Around what torch does instead."""
        start = time.perf_counter()
        yield
        self.torch_s += time.perf_counter() - start


@dataclass(eq=False)
class EngineState:
    """What the steps of a model share.

    Attributes:
        runtime: what converts and runs them.
        weights: identity of the model's weights, such as `file_digest`.
        folder: of the cache.
        patience_s: seconds that torch executes a step which is not in the cache, before it is converted.
        may_fail: whether torch goes on where a conversion fails.
        taken_over: told of parts of the network whose weights torch will not need any more, unless a step is converted
            for another shape.
    """

    runtime: Runtime
    weights: str
    folder: Path
    patience_s: float = 0.0
    may_fail: bool = False
    taken_over: Callable[[nn.Module], None] = lambda part: None
    failure: str | None = None
    _steps: OrderedDict[str, Step] = field(default_factory=OrderedDict)

    @property
    def status(self) -> str:
        """Which engine executes the network by now, for people."""
        if self.failure:
            return f"torch, because {self.failure}"
        steps = list(self._steps.values())
        waiting = sum(step.run is None for step in steps)
        if waiting == len(steps):
            return f"{self.runtime.name}, torch until converting pays" if self.patience_s else self.runtime.name
        return f"{self.runtime.name}, torch for {waiting} of {len(steps)} steps" if waiting else self.runtime.name


@dataclass(eq=False)
class CompiledSteps:
    """Steps of a part of a network.

    Attributes:
        state: what they share with those of other parts.
        part: the part, of torch.
        name: of the part.
    """

    state: EngineState
    part: nn.Module
    name: str

    def __post_init__(self) -> None:
        self._parameters = [module._parameters for module in self.part.modules()]  # walking the part takes milliseconds
        self._versions = self._version()

    def get(
        self,
        kind: str,
        variant: object,
        make: Callable[[], nn.Module],
        example: tuple[Tensor, ...],
        *,
        weights: nn.Module,
        backbone: bool = False,
        any_views: bool = False,
    ) -> Step:
        """The step `make()` for inputs like `example`, from memory, from the cache, or converted now.

        Args:
            kind, variant: what tells it from other steps of this part.
            weights: what of the part it needs, and no other step does.
            backbone: whether it has the precision of the backbone.
            any_views: see `Runtime.build`.

        Raises:
            InputError: it cannot be converted.
        """
        state = self.state
        if state.failure or not self._may_run(example):
            return Step()
        precision = state.runtime.precision if backbone else "float32"
        shapes = [tuple(part.shape) for part in example]
        key = self._key(kind, variant, shapes, precision)
        step = state._steps.setdefault(key, Step())
        state._steps.move_to_end(key)
        if step.run is None and step.waits:
            path = state.folder / f"{key}.step"
            step.run = self._stored(path, precision)
            step.waits = step.run is not None or step.torch_s < state.patience_s
            if not step.waits:
                step.run = self._converted(f"{self.name} {kind} {shapes[0]}", path, make, example, precision, any_views)
            if step.run is not None:
                step.bytes, step.waits = path.stat().st_size, True
                self._hand_over(weights)
                self._make_room()
        return step

    def _key(self, kind: str, variant: object, shapes: list[tuple[int, ...]], precision: str) -> str:
        runtime = self.state.runtime
        about = (self.name, kind, variant, shapes, precision, self.state.weights)
        return hashlib.sha256(
            repr((*about, runtime.name, runtime.version, runtime.device, _machine())).encode()
        ).hexdigest()

    def _may_run(self, example: tuple[Tensor, ...]) -> bool:
        """Not where torch differentiates, on another device or in another type, nor with other weights."""
        first = next(self.part.parameters())
        if torch.is_grad_enabled() or first.device.type != example[0].device.type or first.dtype != torch.float32:
            return False
        if (self.state.runtime.device.lower() == "cpu") != (first.device.type == "cpu"):
            return False
        if self._version() != self._versions:
            self.state.failure = "the weights of the model were changed after it was loaded"
            _log.warning("torch executes the network: %s", self.state.failure)
            return False
        return True

    def _version(self) -> int:
        return sum(version_of(each) for own in self._parameters for each in own.values() if each is not None)

    def _hand_over(self, weights: nn.Module) -> None:
        self.state.taken_over(weights)
        self._versions = self._version()

    def _make_room(self) -> None:
        """Forget what was not used for long; it is still in the cache."""
        steps = self.state._steps
        while len(steps) > LOADED_STEPS and sum(step.bytes for step in steps.values()) > LOADED_BYTES:
            steps.popitem(last=False)

    def _stored(self, path: Path, precision: str) -> Compiled | None:
        try:
            status = path.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            if path.with_suffix(".sha256").read_text() != _digest(path):
                return None
            compiled = self.state.runtime.load(path, precision)
        except FileNotFoundError:
            return None
        except Exception as error:
            _log.warning("the converted step %s cannot be used (%s): it is made again", path, error)
            return None
        os.utime(path)
        return compiled

    def _converted(
        self,
        what: str,
        path: Path,
        make: Callable[[], nn.Module],
        example: tuple[Tensor, ...],
        precision: str,
        any_views: bool,
    ) -> Compiled | None:
        name = self.state.runtime.name
        _log.info("converting %s for %s; the next start finds it", what, name)
        start = time.monotonic()
        module = make().eval()
        with _plain(example[0].device):
            example = tuple(each.detach().float().clone() for each in example)
            module(*example)  # fills the caches of rotary and UV tables, so that tracing finds constants
        try:
            compiled = self._built(path, module, example, precision, any_views)
        except Exception as error:  # whatever a package raises for an operation that it does not know
            reason = f"{name} cannot convert {what} ({str(error).strip().splitlines()[0]})"
            if not self.state.may_fail:
                raise InputError(f"{reason}: use engine torch") from error
            self.state.failure = reason
            _log.warning("torch executes the network: %s", reason)
            return None
        _log.info("converted in %.1f s", time.monotonic() - start)
        return compiled

    def _built(
        self, path: Path, step: nn.Module, example: tuple[Tensor, ...], precision: str, any_views: bool
    ) -> Compiled:
        self.state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staged_file(path) as part, _plain(example[0].device), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # tracing is what all versions of the engines know
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # sizes are constant
            self.state.runtime.build(step, example, part, precision, any_views=any_views)
            part.chmod(0o600)
            write_atomically(path.with_suffix(".sha256"), _digest(part).encode())
        self._make_place()
        return self.state.runtime.load(path, precision)

    def _make_place(self) -> None:
        files = sorted(self.state.folder.glob("*.step"), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > KEPT_BYTES:
                file.unlink(missing_ok=True)
                file.with_suffix(".sha256").unlink(missing_ok=True)


def weights_digest(network: nn.Module) -> str:
    """Over names, shapes and values of all parameters, for weights that no file holds."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().float().contiguous(memory_format=torch.contiguous_format).numpy())
    return digest.hexdigest()


def file_digest(path: Path, folder: Path) -> str:
    """Over the content of a file of weights, which is read once: the folder remembers it for as long as the system says
    that nobody has touched the file since.
    """
    path = path.resolve()
    status = path.stat()
    touched = (str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    note = folder / f"{hashlib.sha256(repr(touched).encode()).hexdigest()}.weights"
    try:
        noted = note.stat()
        if noted.st_uid == os.geteuid() and not noted.st_mode & 0o022:
            return note.read_text()
    except FileNotFoundError:
        pass
    digest = _digest(path)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(note, digest.encode())
    return digest


@contextmanager
def _plain(device: torch.device) -> Iterator[None]:
    """float32 and no gradients, whatever the caller is about; tracing knows no inference mode."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


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
