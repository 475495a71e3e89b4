# SPDX-License-Identifier: Apache-2.0
"""The three steps of a network as modules that a runtime can convert, and the parts of a network that run them.

Sizes are fixed at conversion: position, rotary and UV tables, which torch code looks up in caches that tracing does not
see, become constants of the converted step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from da3_core.engines.compiled_steps import CompiledSteps
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import PATCH_SIZE, Size
from da3_core.network.monocular import MonocularNetwork
from da3_core.network.nested import NestedNetwork
from da3_core.network.vit import Backbone


def run_on(network: nn.Module, steps: CompiledSteps) -> None:
    """Let the heavy steps of a network run as `steps` compiles them; everything else about it stays.

    The weights of its backbone and dense heads stay where they are, so that other shapes can be converted later.
    """
    if isinstance(network, NestedNetwork):
        run_on(network.da3, steps.below("da3"))
        run_on(network.da3_metric, steps.below("da3_metric"))
        return
    assert isinstance(network, AnyViewNetwork | MonocularNetwork)
    network.backbone = EngineBackbone(network.backbone, steps)
    network.head = EngineHead(network.head, steps.below("head"))  # type: ignore[assignment]
    if isinstance(network, AnyViewNetwork) and hasattr(network, "gs_head"):
        network.gs_head = EngineHead(network.gs_head, steps.below("gs_head"))  # type: ignore[assignment]


class EngineBackbone(Backbone):
    """A backbone whose blocks run elsewhere."""

    def __init__(self, backbone: Backbone, steps: CompiledSteps) -> None:
        nn.Module.__init__(self)
        self.config, self.local_depth = backbone.config, backbone.local_depth
        self.pretrained = backbone.pretrained
        self._steps = steps
        self._torch = [backbone]  # in a list, so that its weights are not counted twice

    def local_blocks(
        self, images: Tensor, layers: Sequence[int], positions: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """One view after the other: a converted step serves windows of any number of views."""
        step = self._steps.get(
            "embed",
            tuple(layers),
            lambda: _Local(self._torch[0], tuple(layers), (images.shape[2], images.shape[3])),
            (images[:1],),
            backbone=True,
        )
        parts = [step(image[None]) for image in images]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def joint_blocks(self, tokens: Tensor, grid: Size, layers: Sequence[int]) -> tuple[Tensor, ...]:
        step = self._steps.get(
            "join",
            (grid, *layers),
            lambda: _Joint(self._torch[0], grid, tuple(layers)),
            (tokens[:1],),
            backbone=True,
        )
        parts = [step(scene[None]) for scene in tokens]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class EngineHead(nn.Module):
    """A dense head that runs elsewhere."""

    def __init__(self, head: nn.Module, steps: CompiledSteps) -> None:
        super().__init__()
        self._steps = steps
        self._torch: Any = head

    def forward(self, *inputs: Tensor, grid: Size, **options: Any) -> dict[str, Tensor]:
        """As the torch head, for any number of views."""
        names = self._torch.output_names(**options)
        step = self._steps.get(
            "decode",
            (grid, *sorted(options.items())),
            lambda: _Head(self._torch, names, grid, options),
            tuple(part[:1] for part in inputs),
            backbone=False,
        )
        views = [step(*(part[view : view + 1] for part in inputs)) for view in range(len(inputs[0]))]
        return {name: torch.cat(column) for name, column in zip(names, zip(*views, strict=True), strict=True)}


class _Local(nn.Module):
    positions: Tensor

    def __init__(self, backbone: Backbone, layers: tuple[int, ...], size: Size) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers
        grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
        self.register_buffer("positions", backbone.pretrained.position_embedding(*grid))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.backbone.local_blocks(images, self.layers, self.positions)


class _Joint(nn.Module):
    def __init__(self, backbone: Backbone, grid: Size, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone, self.grid, self.layers = backbone, grid, layers

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return self.backbone.joint_blocks(tokens, self.grid, self.layers)


class _Head(nn.Module):
    def __init__(self, head: nn.Module, names: Sequence[str], grid: Size, options: dict[str, Any]) -> None:
        super().__init__()
        self.head, self.names, self.grid, self.options = head, names, grid, options

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = self.head(*inputs, grid=self.grid, **self.options)
        return tuple(values[name] for name in self.names)
