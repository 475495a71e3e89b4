# SPDX-License-Identifier: Apache-2.0
"""The model that a command works with: loaded here, or in workers; the rest of the command is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from da3_core.api import DepthAnything3
from da3_core.cli.failures import terminated_like_interrupted
from da3_core.cli.model import load_model
from da3_core.cluster.options import ClusterOptions
from da3_core.errors import InputError
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.stream.inference import Inference, InferenceInTurn, RequestOf, View, WindowLog, bind_predict
from da3_core.stream.kept_windows import KeptInference, kept_beside

if TYPE_CHECKING:
    from da3_core.cluster.pool import RemoteModel, WorkerPool

logger = logging.getLogger(__name__)


class ModelAtHand(Protocol):
    """A model, and how it is asked."""

    @property
    def model(self) -> DepthAnything3 | RemoteModel:
        """Loaded."""

    def inference(self, request_of: RequestOf[View], options: InferenceOptions, log: WindowLog) -> Inference[View]:
        """Of views, with options as `check` returned them."""


OpenModel: TypeAlias = Callable[[], AbstractContextManager[ModelAtHand]]


class LocalModel:
    """In this process."""

    def __init__(self, options: ModelOptions) -> None:
        self._model = load_model(options)

    @property
    def model(self) -> DepthAnything3:
        return self._model

    def inference(self, request_of: RequestOf[View], options: InferenceOptions, log: WindowLog) -> Inference[View]:
        return InferenceInTurn(request_of, bind_predict(self._model, options), log)


class WorkersModel:
    """In workers, for any number of threads."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    @property
    def model(self) -> RemoteModel:
        return self._pool.model

    def inference(self, request_of: RequestOf[View], options: InferenceOptions, log: WindowLog) -> Inference[View]:
        from da3_core.cluster.pool import PoolInference

        return PoolInference(self._pool, request_of, options, log)

    @property
    def is_idle(self) -> bool:
        """Whether workers could do more than they are asked for."""
        return self._pool.is_idle

    @property
    def failure(self) -> InputError | None:
        """What ended all workers; every thread gets it."""
        return self._pool.failure

    def end(self) -> None:
        """Let all threads end where they next wait for a worker, or look at `failure`."""
        self._pool.end()


@contextmanager
def model_at_hand(options: ModelOptions, cluster: ClusterOptions) -> Iterator[ModelAtHand]:
    """Until the block ends.

    Raises:
        InputError: unknown model, missing or refused weights, no Ray, or no room for a worker.
    """
    if not cluster.is_wanted:
        yield LocalModel(options)
        return
    from da3_core.cluster.connection import connected
    from da3_core.cluster.pool import WorkerPool

    # Once more inside, since Ray has the process aborted by SIGTERM.
    with terminated_like_interrupted(), connected(cluster) as ray, terminated_like_interrupted():
        pool = WorkerPool(ray, cluster, options)
        try:
            logger.info("%s on %s by %s, in workers", pool.model.preset.name, pool.model.device, pool.model.engine)
            yield WorkersModel(pool)
            logger.info("%s", pool.told())
        finally:
            pool.close()


@contextmanager
def inference_at_hand(
    hand: ModelAtHand,
    request_of: RequestOf[View],
    options: InferenceOptions,
    log: WindowLog,
    *,
    resumed: Path | None,
) -> Iterator[Inference[View]]:
    """Of views; `resumed` is the output of a run that can be, whose windows are kept until the block ends well."""
    infer = hand.inference(request_of, options, log)
    if resumed is None:
        yield infer
        return
    with kept_beside(resumed, hand.model, options) as kept:
        yield KeptInference(infer, request_of, kept, log)
