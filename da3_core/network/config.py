# SPDX-License-Identifier: Apache-2.0
"""The numbers that fix an architecture, as frozen dataclasses. Imports nothing heavy, so that presets stay cheap."""

from dataclasses import dataclass
from typing import Literal

PATCH_SIZE = 14
HEAD_WIDTH = 64  # channels of an attention head of the backbone

FeedForward = Literal["mlp", "swiglu"]
AttentionKernel = Literal["torch", "xformers"]
Size = tuple[int, int]
RefViewStrategy = Literal["saddle_balanced", "saddle_sim_range", "first", "middle"]


def image_size_of(grid: Size) -> Size:
    """Height and width in pixels of an image of h x w patches."""
    return PATCH_SIZE * grid[0], PATCH_SIZE * grid[1]


@dataclass(frozen=True)
class BackboneConfig:
    """A DINOv2 vision transformer and where its blocks begin to look across views.

    Attributes:
        width: channels C of a token.
        depth: number of blocks.
        feed_forward: `mlp` (GELU) or `swiglu`.
        hidden: hidden channels of the feed-forward layer.
        out_layers: the four blocks whose output feeds the dense heads.
        joint_from: from this block on odd blocks attend over all views and even ones inside a view; None where views
            never meet.
        rotary: whether those blocks use rotary positions and query-key normalisation. Without, they keep the form in
            which DINOv2 trained them.
    """

    width: int
    depth: int
    feed_forward: FeedForward
    hidden: int
    out_layers: tuple[int, int, int, int]
    joint_from: int | None
    rotary: bool = True

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH

    @property
    def feature_width(self) -> int:
        """Channels of a feature map handed to a head: joint networks put local and global state side by side."""
        return self.width if self.joint_from is None else 2 * self.width


@dataclass(frozen=True)
class HeadConfig:
    """A DPT head.

    Attributes:
        out_channels: channels after projection of the four feature maps.
        features: channels of the fusion that follows.
        sky: whether an any-view head tells the sky too, as those of mono and metric networks always do.
        log_depth_range: where given, the logarithm of depth stays within it to both sides of 0, softly.
    """

    out_channels: tuple[int, int, int, int]
    features: int
    sky: bool = False
    log_depth_range: float | None = None


@dataclass(frozen=True)
class AnyViewConfig:
    """Depth, confidence, rays and cameras from any number of views; Gaussians where the weights have that head.

    Without `camera_encoder` known cameras do not reach the network.
    """

    backbone: BackboneConfig
    head: HeadConfig
    gaussians: bool = False
    camera_encoder: bool = True


@dataclass(frozen=True)
class MonocularConfig:
    """Depth and sky from every view by itself."""

    backbone: BackboneConfig
    head: HeadConfig


@dataclass(frozen=True)
class NestedConfig:
    """An any-view network whose scale is set by a metric one."""

    any_view: AnyViewConfig
    metric: MonocularConfig


NetworkConfig = AnyViewConfig | MonocularConfig | NestedConfig
