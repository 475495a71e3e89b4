# SPDX-License-Identifier: Apache-2.0
"""A whole network as one ONNX file, for runtimes that know nothing of this package."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from da3_core.engines.onnx_runtime import OPSET, export_step
from da3_core.errors import InputError
from da3_core.network.any_view import AnyViewNetwork
from da3_core.network.config import PATCH_SIZE, Size
from da3_core.network.monocular import MonocularNetwork
from da3_core.storage.staging import staged_file

CHECKED_VIEWS = (1, 2, 4)
MAX_DEVIATION = 1e-3  # of the largest value of an output
MAX_BYTES = 1.9e9  # of the weights; a file of ONNX holds 2 GiB
_EXAMPLE_VIEWS = 3  # the fewest among which a reference view is chosen


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Attributes:
        shapes: of the input `images` and of every output, by name; `views` is a number of views.
        deviation: the largest from torch, relative to the largest value of an output, by number of views.
    """

    path: Path
    opset: int
    shapes: dict[str, tuple[int | str, ...]]
    deviation: dict[int, float]


def write_onnx(network: nn.Module, path: Path, size: Size, views: int | None) -> OnnxFile:
    """Write an ONNX file of a network in float32, run it, and compare it with torch.

    Its input `images` (views, 3, H, W) is RGB, normalised as `preprocessing.normalise` does. Any-view networks give
    `depth`, `depth_conf` (views, H, W), `world_to_camera` (views, 3, 4) and `intrinsics` (views, 3, 3) in pixels, of
    views in the order given; mono and metric networks `depth` and raw `sky`. Where there is sky, its depth is as the
    network put it.

    Args:
        network: of `network.build_network`, with its weights, on the CPU.
        size: height and width of the images, multiples of 14.
        views: a fixed number, or None for any.

    Raises:
        InputError: a network or a size that cannot be written, or a file that gives other numbers than torch.
    """
    if not isinstance(network, AnyViewNetwork | MonocularNetwork):
        raise InputError("a nested network is two networks that metres join: export an any-view and a metric one")
    if size[0] % PATCH_SIZE or size[1] % PATCH_SIZE or min(size) < PATCH_SIZE:
        raise InputError(f"size is {size[0]}x{size[1]}; height and width must be multiples of {PATCH_SIZE}")
    if views is not None and views < 1:
        raise InputError(f"views is {views}; give at least 1, or dynamic")
    if sum(each.nbytes for each in network.parameters()) > MAX_BYTES:
        raise InputError("an ONNX file holds 2 GB, and this network is larger: export a smaller one")
    whole = _Whole(network).eval()
    count = _EXAMPLE_VIEWS if views is None else views
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))
    names = ["images", *whole.names]
    axes = {} if views is not None else {name: {0: "views"} for name in names}
    with staged_file(path) as part, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        outputs = whole(images)
        export_step(whole, (images,), part, input_names=names[:1], output_names=names[1:], dynamic_axes=axes)
        deviation = _compared(whole, part, size, CHECKED_VIEWS if views is None else (views,))
    leading: int | str = "views" if views is None else views
    shapes: dict[str, tuple[int | str, ...]] = {
        name: (leading, *value.shape[1:]) for name, value in zip(names, (images, *outputs), strict=True)
    }
    return OnnxFile(path, OPSET, shapes, deviation)


class _Whole(nn.Module):
    """One scene to a tuple of named outputs."""

    def __init__(self, network: AnyViewNetwork | MonocularNetwork) -> None:
        super().__init__()
        self.network = network
        cameras = ("world_to_camera", "intrinsics") if isinstance(network, AnyViewNetwork) else ()
        self.names = (*network.head.output_names(), *cameras)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        if isinstance(network, MonocularNetwork):
            views = network.backbone.embed_views(images[None])
            features = network.backbone.view_features(views)
            cameras: tuple[Tensor, ...] = ()
        else:
            views = network.embed_views(images[None])
            features = network.join_views(views)
            cameras = network.decode_cameras(features)
        values = network.head(*(maps[0] for maps in features.maps), grid=features.grid)
        return *values.values(), *(camera[0] for camera in cameras)


def _compared(whole: nn.Module, path: Path, size: Size, counts: tuple[int, ...]) -> dict[int, float]:
    """How far ONNX Runtime is from torch, by number of views."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = {}
    for count in counts:
        images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))
        theirs = session.run(None, {"images": images.numpy()})
        pairs = zip(whole(images), map(torch.from_numpy, theirs), strict=True)
        found[count] = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs)
        if not found[count] <= MAX_DEVIATION:
            raise InputError(
                f"the ONNX file of {count} views deviates from torch by {found[count]:.1e} of the largest value: "
                "nothing is written; try another version of onnxruntime"
            )
    return found
