# SPDX-License-Identifier: Apache-2.0
"""What an engine must be able to do: turn a step of the network into something that runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

Compiled = Callable[..., "tuple[Tensor, ...]"]  # float32 tensors on the CPU in and out

# Called every now and then while a step runs; raises where its result is not wanted any more.
go_on: ContextVar[Callable[[], object]] = ContextVar("go_on", default=lambda: None)
VIEWS_AXIS = 1  # of the tokens (B, N, 1 + P, C) of views that meet, and of all that comes of them


class Runtime(Protocol):
    """A runtime for steps whose shapes are fixed, but for the number of views where they meet.

    Attributes:
        name: of the engine, as users choose it.
        version: of its package.
        precision: `float32` or `bfloat16`, of the steps of the backbone.
        device: what it runs on, in its own words.
    """

    name: str
    version: str
    precision: str
    device: str

    def build(
        self, step: nn.Module, example: tuple[Tensor, ...], path: Path, precision: str, *, any_views: bool
    ) -> None:
        """Convert a step for inputs of the shapes of `example` and write it to the file `path`.

        Args:
            any_views: whether the length of `VIEWS_AXIS` of the one input and of all outputs may be any other too.
        """

    def load(self, path: Path, precision: str) -> Compiled:
        """What `build` wrote with that precision, ready to run; raises what the package raises for an unusable file."""
