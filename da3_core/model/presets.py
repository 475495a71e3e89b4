# SPDX-License-Identifier: Apache-2.0
"""Every released model as data: its architecture, where its weights live, under which licence, what it can do."""

from dataclasses import dataclass
from typing import Literal

from da3_core.errors import InputError
from da3_core.network.config import (
    AnyViewConfig,
    BackboneConfig,
    HeadConfig,
    MonocularConfig,
    NestedConfig,
    NetworkConfig,
)
from da3_core.options import PROCESS_RES

Kind = Literal["any-view", "mono", "metric", "nested"]

EMBEDDED = "da3-embedded"  # its weights come with this package; `embedded` for short


@dataclass(frozen=True)
class Preset:
    """A released model.

    Attributes:
        name: e.g. `da3-small`.
        hub_id: the Hugging Face repository of its weights.
        licence: SPDX identifier of the licence of the weights.
        kind: `any-view` (depth, confidence, cameras), `mono` (depth, sky), `metric` (depth in metres for a focal
            length of 300 pixels, sky) or `nested` (an any-view model in metres).
        network: the architecture.
        parameters: how many numbers it has learned.
        architecture: the name that checkpoints of this architecture carry in their `config.json`; retrained weights
            share it.
        process_res: the length in pixels that images are resized to unless the user names one.
    """

    name: str
    hub_id: str
    licence: str
    kind: Kind
    network: NetworkConfig
    parameters: int
    architecture: str
    process_res: int = PROCESS_RES

    @property
    def gives(self) -> str:
        """What it predicts, in words."""
        if self.kind == "mono":
            return "relative depth, sky"
        if self.kind == "metric":
            return "depth in metres with known intrinsics, sky"
        gives = "depth, confidence, poses, intrinsics" + ", 3-D Gaussians" * self.has_gaussians
        if self.name == EMBEDDED:
            return "soft, relative depth, confidence, intrinsics; needs no hub"
        return f"{gives}, sky, in metres" if self.kind == "nested" else gives

    @property
    def weights_bytes(self) -> int:
        """What its weights take on the hub and on the disk, in float32."""
        return 4 * self.parameters

    @property
    def has_poses(self) -> bool:
        """Whether it predicts cameras."""
        return self.kind in ("any-view", "nested")

    @property
    def pose_method(self) -> Literal["decoder", "features"]:
        """Where its cameras come from best; the camera decoder of the embedded model has not learned to place them."""
        return "decoder" if self.has_poses and self.name != EMBEDDED else "features"

    @property
    def refine_depth(self) -> Literal["yes", "no"]:
        """Whether matches between views are better than its depth."""
        return "yes" if self.name == EMBEDDED else "no"

    @property
    def sees_given_poses(self) -> bool:
        """Whether known poses condition the network; those without a camera encoder are only aligned to them."""
        return not isinstance(self._features, MonocularConfig) and self._features.camera_encoder

    @property
    def has_gaussians(self) -> bool:
        return not isinstance(self._features, MonocularConfig) and self._features.gaussians

    @property
    def depth_blocks(self) -> int:
        """Number of backbone blocks whose features can be exported: valid layers are `0..depth_blocks - 1`."""
        return self._features.backbone.depth

    @property
    def is_permissive(self) -> bool:
        """Whether the weights may be used commercially."""
        return "-NC-" not in self.licence

    @property
    def _features(self) -> AnyViewConfig | MonocularConfig:
        return self.network.any_view if isinstance(self.network, NestedConfig) else self.network


_LARGE_HEAD = HeadConfig((256, 512, 1024, 1024), features=256)

_SMALL = AnyViewConfig(
    BackboneConfig(384, depth=12, feed_forward="mlp", hidden=1536, out_layers=(5, 7, 9, 11), joint_from=4),
    HeadConfig((48, 96, 192, 384), features=64),
)
_EMBEDDED = AnyViewConfig(
    BackboneConfig(
        384, depth=12, feed_forward="mlp", hidden=1536, out_layers=(5, 7, 9, 11), joint_from=8, rotary=False
    ),
    HeadConfig((32, 64, 128, 256), features=48, sky=True, log_depth_range=6.0),
    camera_encoder=False,
)
_BASE = AnyViewConfig(
    BackboneConfig(768, depth=12, feed_forward="mlp", hidden=3072, out_layers=(5, 7, 9, 11), joint_from=4),
    HeadConfig((96, 192, 384, 768), features=128),
)
_LARGE = AnyViewConfig(
    BackboneConfig(1024, depth=24, feed_forward="mlp", hidden=4096, out_layers=(11, 15, 19, 23), joint_from=8),
    _LARGE_HEAD,
)
_GIANT = AnyViewConfig(
    BackboneConfig(1536, depth=40, feed_forward="swiglu", hidden=4096, out_layers=(19, 27, 33, 39), joint_from=13),
    _LARGE_HEAD,
    gaussians=True,
)
_MONOCULAR = MonocularConfig(
    BackboneConfig(1024, depth=24, feed_forward="mlp", hidden=4096, out_layers=(4, 11, 17, 23), joint_from=None),
    _LARGE_HEAD,
)
_NESTED = NestedConfig(_GIANT, _MONOCULAR)

_APACHE, _NON_COMMERCIAL = "Apache-2.0", "CC-BY-NC-4.0"


def _preset(hub_name: str, licence: str, kind: Kind, network: NetworkConfig, parameters: int) -> Preset:
    name = hub_name.lower()
    return Preset(name, f"depth-anything/{hub_name}", licence, kind, network, parameters, name.removesuffix("-1.1"))


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _preset("DA3-SMALL", _APACHE, "any-view", _SMALL, 34_299_463),
        _preset("DA3-BASE", _APACHE, "any-view", _BASE, 135_366_599),
        _preset("DA3-LARGE", _NON_COMMERCIAL, "any-view", _LARGE, 410_941_767),
        _preset("DA3-LARGE-1.1", _NON_COMMERCIAL, "any-view", _LARGE, 410_941_767),
        _preset("DA3-GIANT", _NON_COMMERCIAL, "any-view", _GIANT, 1_355_674_125),
        _preset("DA3-GIANT-1.1", _NON_COMMERCIAL, "any-view", _GIANT, 1_355_674_125),
        _preset("DA3MONO-LARGE", _APACHE, "mono", _MONOCULAR, 334_171_394),
        _preset("DA3METRIC-LARGE", _APACHE, "metric", _MONOCULAR, 334_171_394),
        _preset("DA3NESTED-GIANT-LARGE", _NON_COMMERCIAL, "nested", _NESTED, 1_689_845_519),
        _preset("DA3NESTED-GIANT-LARGE-1.1", _NON_COMMERCIAL, "nested", _NESTED, 1_689_845_519),
        Preset(
            *(EMBEDDED, "facebook/dinov2-small", _APACHE, "any-view", _EMBEDDED),
            *(25_307_968, EMBEDDED),
            process_res=224,
        ),
    )
}


def find_preset(name_or_hub_id: str) -> Preset:
    """The preset of that name or hub id, letter case ignored; `embedded` is `da3-embedded`.

    Raises:
        InputError: no preset is called so; the message lists them all.
    """
    name = name_or_hub_id.lower().removeprefix("depth-anything/")
    preset = PRESETS.get(EMBEDDED if name == "embedded" else name)
    if preset is None:
        raise InputError(f"unknown model {name_or_hub_id!r}: use one of {', '.join(PRESETS)}, or its hub id")
    return preset
