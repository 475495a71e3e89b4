# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about workers; it imports nothing heavy."""

from dataclasses import dataclass

from da3_core.errors import OptionError
from da3_core.options import Checked, Face, option

_FACES: tuple[Face, ...] = ("command", "bag")


@dataclass(frozen=True)
class ClusterOptions(Checked):
    """Whether other processes infer the windows, how many, and where; see docs/scale.md."""

    workers: int | None = option(
        None,
        "Processes that infer windows side by side, each with the model; needs the package ray.",
        low=1,
        high=100_000,
        unset="none: this process infers; with a cluster, as many as it has room for",
        faces=_FACES,
    )
    cpus_per_worker: int = option(1, "Threads of a worker.", low=1, high=1024, faces=_FACES)
    ray_address: str | None = option(
        None,
        "The cluster to join, as HOST:PORT of its head or auto; run the command on one of its machines.",
        unset="a cluster of this machine alone, for this run, on its loopback interface",
        faces=_FACES,
    )
    ray_dashboard: bool = option(False, "Show Ray's dashboard while this run's own cluster is up.", faces=_FACES)

    def __post_init__(self) -> None:
        """Raises InputError, for choices about workers that there are none of."""
        super().__post_init__()
        if not self.is_wanted and (self.cpus_per_worker != 1 or self.ray_dashboard):
            raise OptionError("{cpus_per_worker} and {ray_dashboard} are about workers: add {workers}")
        if self.ray_address is not None and self.ray_dashboard:
            raise OptionError("{ray_dashboard} came with {ray_address}: a cluster that is there has its own, or none")

    @property
    def is_wanted(self) -> bool:
        return self.workers is not None or self.ray_address is not None
