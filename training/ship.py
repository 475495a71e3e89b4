# SPDX-License-Identifier: Apache-2.0
"""Write what was trained, float16, to where the library looks for it: `python -m training.ship`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from da3_core.model.embedded import TRAINED
from da3_core.storage.staging import write_atomically
from training.plan import Plan


def ship(state: Path, out: Path) -> int:
    """The averaged weights of a checkpoint as a safetensors file; returns its size in bytes."""
    average = torch.load(state, weights_only=True)["average"]
    tensors = {f"model.{name}": value.half().contiguous() for name, value in average.items()}
    broken = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{broken[0]} is not finite in float16")
    content = save(tensors, metadata={"format": "pt", "licence": "Apache-2.0"})
    write_atomically(out, content)
    return len(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Plan().run / "state.pt")
    parser.add_argument("--out", type=Path, default=TRAINED)
    arguments = parser.parse_args()
    print(f"{arguments.out}: {ship(arguments.state, arguments.out) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
