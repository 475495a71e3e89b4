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

from da3_core.engines.compiled_steps import CompiledSteps, EngineState
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import PATCH_SIZE, Size
from da3_core.network.monocular import MonocularNetwork
from da3_core.network.nested import NestedNetwork
from da3_core.network.vit import Backbone


def run_on(network: nn.Module, state: EngineState, name: str = "") -> None:
    """Let the heavy steps of a network run as an engine compiles them; everything else about it stays.

    Its parameters keep their names and their places. torch executes a step wherever the engine does not.
    """
    if isinstance(network, NestedNetwork):
        run_on(network.da3, state, "da3.")
        run_on(network.da3_metric, state, "da3_metric.")
        return
    assert isinstance(network, AnyViewNetwork | MonocularNetwork)
    network.backbone = EngineBackbone(network.backbone, CompiledSteps(state, network.backbone, f"{name}backbone"))
    for each in ("head", "gs_head"):
        if hasattr(network, each):
            head = getattr(network, each)
            setattr(network, each, EngineHead(head, CompiledSteps(state, head, f"{name}{each}")))


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
        backbone, layers = self._torch[0], tuple(layers)
        step = self._steps.get(
            "embed",
            layers,
            lambda: _Local(backbone, layers, (images.shape[2], images.shape[3])),
            (images[:1],),
            weights=self.pretrained.blocks[: self.local_depth],
            backbone=True,
        )
        if step.run is None:
            with step.in_torch():
                return backbone.local_blocks(images, layers, positions)
        parts = [step.run(image[None]) for image in images]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def joint_blocks(self, tokens: Tensor, grid: Size, layers: Sequence[int]) -> tuple[Tensor, ...]:
        backbone, layers = self._torch[0], tuple(layers)
        step = self._steps.get(
            "join",
            (grid, *layers),
            lambda: _Joint(backbone, grid, layers),
            (_two_views(tokens),),
            weights=self.pretrained.blocks[self.local_depth :],
            backbone=True,
            any_views=True,
        )
        if step.run is None:
            with step.in_torch():
                return backbone.joint_blocks(tokens, grid, layers)
        parts = [step.run(scene[None]) for scene in tokens]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class EngineHead(nn.Module):
    """A dense head that runs elsewhere."""

    def __init__(self, head: nn.Module, steps: CompiledSteps) -> None:
        super().__init__()
        self._modules, self._parameters = head._modules, head._parameters  # as they are named in a checkpoint
        self._steps = steps
        self._torch: list[Any] = [head]

    def forward(self, *inputs: Tensor, grid: Size, **options: Any) -> dict[str, Tensor]:
        """As the torch head, for any number of views."""
        head = self._torch[0]
        names = head.output_names(**options)
        step = self._steps.get(
            "decode",
            (grid, *sorted(options.items())),
            lambda: _Head(head, names, grid, options),
            tuple(part[:1] for part in inputs),
            weights=head,
        )
        if step.run is None:
            with step.in_torch():
                values: dict[str, Tensor] = head(*inputs, grid=grid, **options)
                return values
        views = [step.run(*(part[view : view + 1] for part in inputs)) for view in range(len(inputs[0]))]
        return {name: torch.cat(column) for name, column in zip(names, zip(*views, strict=True), strict=True)}


def _two_views(tokens: Tensor) -> Tensor:
    """Of tokens (B, N, ...) those of one scene with two views: a number that a conversion takes for no constant."""
    scene = tokens[:1]
    return scene[:, :2] if scene.shape[1] > 1 else scene.expand(-1, 2, -1, -1)


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
