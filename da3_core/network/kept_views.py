# SPDX-License-Identifier: Apache-2.0
"""What a network makes of a view by itself, kept for the next windows that the view is in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

KEPT_BYTES = 2**28  # of views that are not in the last window

Parts = tuple[Tensor, ...]


@dataclass(eq=False)
class KeptViews:
    """Results of one network about views, which their callers tell apart by name; the longest unused make place.

    A name stands for one image as long as these results are kept, and the weights of the network must stay.

    Attributes:
        most_bytes: of results; those of the views that are asked about at once are kept in any case.
    """

    most_bytes: int = KEPT_BYTES
    _parts: OrderedDict[Hashable, Parts] = field(default_factory=OrderedDict)

    def known(self, names: Sequence[Hashable]) -> KnownViews:
        """For one pass over the views of these names."""
        return KnownViews(self, tuple(names))

    @property
    def bytes(self) -> int:
        return sum(each.nbytes for parts in self._parts.values() for each in parts)

    def _put(self, keys: Sequence[Hashable], parts: Parts) -> None:
        for i, key in enumerate(keys):
            self._parts[key] = tuple(part[i : i + 1].clone() for part in parts)  # a slice would keep all of them

    def _get(self, keys: Sequence[Hashable]) -> Parts:
        for key in keys:
            self._parts.move_to_end(key)
        parts = tuple(torch.cat(column) for column in zip(*(self._parts[key] for key in keys), strict=True))
        excess = self.bytes - self.most_bytes
        for key in list(self._parts)[: -len(set(keys))]:
            if excess <= 0:
                break
            excess -= sum(part.nbytes for part in self._parts.pop(key))
        return parts


@dataclass(frozen=True, eq=False)
class KnownViews:
    """The views of one pass, by name."""

    kept: KeptViews
    names: tuple[Hashable, ...]

    def parts(self, what: Hashable, images: Tensor, make: Callable[[Tensor], Parts]) -> Parts:
        """`make(images)`, (V, ...) each, made of those views only that are not known yet.

        Args:
            what: tells `make` from others.
            images: (V, 3, H, W), a view per name.
            make: treats every view by itself.
        """
        device = images.device.type
        about = (what, images.shape[1:], images.device, images.dtype, torch.is_autocast_enabled(device))
        keys = [(name, about) for name in self.names]
        new = [i for i, key in enumerate(keys) if key not in self.kept._parts and key not in keys[:i]]
        if new:
            self.kept._put([keys[i] for i in new], make(images[new] if len(new) < len(images) else images))
        return self.kept._get(keys)


def parts_of(known: KnownViews | None, what: Hashable, images: Tensor, make: Callable[[Tensor], Parts]) -> Parts:
    """`make(images)`, with what is known of the views."""
    return make(images) if known is None else known.parts(what, images, make)
