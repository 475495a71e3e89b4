# SPDX-License-Identifier: Apache-2.0
"""Workers that share the windows of a run. One that ends, with its machine or alone, costs the window it was at.

A worker takes `BLOCK` windows in a row, which share views that it has made something of already, `WAITING` of them at
once so that it never waits for the driver. Of an input, no more than `AHEAD` per worker are on their way or finished
and not yet asked for. So the memory of the driver and of Ray's object store is that of so many windows, however long it
is.

Inputs may be processed side by side, each by a thread. One of those that wait listens to the workers for all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Generic
from weakref import WeakKeyDictionary

import torch

from da3_core.api import PresetModel
from da3_core.cluster.images import Content, FilePlace, Sent, content_of, place_of
from da3_core.cluster.options import ClusterOptions
from da3_core.cluster.worker import Call, Reply, Worker, WorkerFacts
from da3_core.errors import ImageError, InputError, OptionError
from da3_core.model.memory import FreeMemory
from da3_core.options import InferenceOptions, ModelOptions
from da3_core.prediction import Prediction
from da3_core.storage.allowed_folders import AllowedFile
from da3_core.stream.frame import Frame
from da3_core.stream.inference import (
    Decoded,
    RequestOf,
    View,
    Window,
    WindowLog,
    WindowRequest,
    WindowRow,
    all_decoded,
)
from da3_core.stream.prediction_file import from_bytes

WAITING = 2  # calls to a worker: one that it is at, and the next
BLOCK = 4  # windows
AHEAD = 2 * BLOCK  # windows per worker
MOST_TRIES = 3  # of a window whose worker ended
MOST_FAILED_STARTS = 3  # in a row
START_S = 300.0  # for a worker to load its model
POLL_S = 0.05  # what another thread has begun meanwhile is not listened to before
TOLD_EVERY_S = 30.0

logger = logging.getLogger(__name__)


class WorkersLost(InputError):
    """No worker is left, and none can be started; or the run ends."""


@dataclass(eq=False)
class Job:
    """A window on its way.

    Attributes:
        request: what is asked.
        options: of the inference.
        block: the windows that one worker takes in a row.
        by_place: whether the images are sent by their places, as far as they have one.
        tries: how often a worker ended at it.
        reply: what came of it.
    """

    number: int
    request: WindowRequest
    options: InferenceOptions
    block: Hashable
    by_place: bool = True
    tries: int = 0
    reply: Reply | None = None
    worker: str = ""


@dataclass(eq=False)
class _Actor:
    """A worker as Ray knows it, and the calls that it has not answered, oldest first."""

    handle: Any
    starting: Any
    began_s: float
    facts: WorkerFacts | None = None
    calls: deque[tuple[Any, Job]] = field(default_factory=deque)
    windows: int = 0
    busy_s: float = 0.0
    block: Hashable = None


class WorkerPool:
    """The workers of a run, within a `with` block of `connected`; for any number of threads.

    Attributes:
        model: what they all hold.
        failure: what ended them all, or None.
        begun: how many windows were.
    """

    def __init__(self, ray: Any, options: ClusterOptions, model_options: ModelOptions) -> None:
        """Start the workers, and wait for the first.

        Raises:
            InputError: the model cannot be loaded, or there is no room for a worker.
        """
        self._ray, self._cpus = ray, options.cpus_per_worker
        self._gpus = 1 if _wants_gpu(ray, model_options) else 0
        self._count = options.workers or self._room()
        self._model_options = model_options
        self._actor_class = ray.remote(Worker)
        self._actors = [self._started() for _ in range(self._count)]
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()  # guards all that is here
        self._is_listened_to = False
        self.failure: InputError | None = None
        self.inputs = count()  # numbers for those who begin windows
        self._contents: WeakKeyDictionary[Frame, tuple[Content, Any]] = WeakKeyDictionary()
        self._failed_starts = self.begun = self._frames = self._lost = 0
        self._known: set[str] = set()  # what workers have said already
        self._travels = False  # once a worker could not read an image at its place
        self._began_s = self._told_s = time.monotonic()
        self._facts: WorkerFacts | None = None
        with self._changed:
            while self._facts is None:
                self._step()
        machines = sum(node["Alive"] for node in ray.nodes())
        self.model: RemoteModel = RemoteModel(self._facts, sharing=-(-self._count // machines))

    @property
    def most_ahead(self) -> int:
        return AHEAD * self._count

    @property
    def is_idle(self) -> bool:
        """Whether a worker has nothing to do, or none would have if it were there."""
        with self._changed:
            return len(self._queue) + sum(len(each.calls) for each in self._actors) < self._count

    def begin(self, request: WindowRequest, options: InferenceOptions, block: Hashable) -> Job:
        """Give out a window.

        Args:
            block: the same for windows that one worker had better take in a row.
        """
        with self._changed:
            job = Job(self.begun, request, options, block)
            self.begun += 1
            self._queue.append(job)
            self._assign()
        return job

    def finish(self, job: Job) -> Reply:
        """Wait for a window.

        Raises:
            WorkersLost: nobody is left to infer it.
        """
        with self._changed:
            while job.reply is None:
                if self.failure is not None:
                    raise self.failure
                if self._is_listened_to:
                    self._changed.wait()
                else:
                    self._step()
        return job.reply

    def at_work(self) -> dict[str, int]:
        """The number of the window that each worker is at."""
        busy = {each.facts.name: each.calls for each in list(self._actors) if each.facts and each.calls}
        return {name: calls[0][1].number for name, calls in busy.items()}

    def told(self) -> str:
        """How fast the workers are, in words."""
        elapsed = max(time.monotonic() - self._began_s, 1e-9)
        parts = [
            f"{each.facts.name} {each.windows} windows, {each.windows / elapsed:.2f} per second, "
            f"busy {each.busy_s / elapsed:.0%}"
            for each in self._actors
            if each.facts
        ]
        lost = f"; {self._lost} were lost" if self._lost else ""
        return f"workers: {'; '.join(parts)}{lost}"

    def end(self) -> None:
        """Who waits for a window, or will, gets `WorkersLost` instead."""
        with self._changed:
            self.failure = self.failure or WorkersLost("the run was ended")
            self._changed.notify_all()

    def close(self) -> None:
        self.end()
        for actor in self._actors:
            self._ray.kill(actor.handle)

    def _room(self) -> int:
        """For how many workers a cluster has room."""
        there = self._ray.cluster_resources()
        room = int(there.get("CPU", 0)) // self._cpus
        if self._gpus:
            room = min(room, int(there.get("GPU", 0)))
        if room < 1:
            raise OptionError(
                "the cluster has {cpus:g} CPUs, and a worker takes {cpus_per_worker} of them: choose fewer",
                cpus=there.get("CPU", 0),
            )
        return room

    def _started(self) -> _Actor:
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_restarts": 0, "max_task_retries": 0}
        handle = self._actor_class.options(**options).remote(self._model_options, self._cpus)
        return _Actor(handle, handle.start.remote(), time.monotonic())

    def _step(self) -> None:
        """Hear the next of what workers say; other threads may go on as long as nothing is said."""
        waited = {actor.starting: actor for actor in self._actors if actor.facts is None}
        waited |= {actor.calls[0][0]: actor for actor in self._actors if actor.calls}
        self._is_listened_to = True
        self._changed.release()
        try:
            done, _ = self._ray.wait(list(waited), num_returns=1, timeout=POLL_S)
        finally:
            self._changed.acquire()
            self._is_listened_to = False
            self._changed.notify_all()
        try:
            for ref in done:
                self._hear(waited[ref], ref)
            if not done:
                self._check_starts()
        except InputError as failure:
            self.failure = failure
            raise
        self._assign()
        self._tell_now_and_then()

    def _hear(self, actor: _Actor, ref: Any) -> None:
        try:
            said = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._lose(actor, error)
            return
        if actor.facts is None:
            self._welcome(actor, said)
            return
        _, job = actor.calls.popleft()
        self._log(said.told)
        if said.unreachable:
            self._travels, job.by_place = True, False
            self._queue.appendleft(job)
            return
        actor.windows += 1
        actor.busy_s += said.seconds
        assert actor.facts is not None
        job.reply, job.worker = said, actor.facts.name

    def _welcome(self, actor: _Actor, said: WorkerFacts | InputError) -> None:
        if isinstance(said, InputError):
            raise said
        if self._facts is not None and said.fingerprint != self._facts.fingerprint:
            raise InputError(
                f"{said.name} has other weights, another device or another engine than {self._facts.name}: give all "
                "machines the same"
            )
        self._failed_starts = 0
        actor.facts = said
        self._facts = self._facts or said
        self._log(said.told)

    def _lose(self, actor: _Actor, error: Exception) -> None:
        """Let another worker infer what this one was at, and start one in its place."""
        self._actors.remove(actor)
        self._ray.kill(actor.handle)
        self._lost += 1
        waiting = [job for _, job in actor.calls]
        name = actor.facts.name if actor.facts else "a worker that was starting"
        logger.warning("%s was lost (%s)%s", name, _reason(error), ": its window is inferred again" if waiting else "")
        if actor.facts is None:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                raise WorkersLost(f"workers end before they have loaded the model ({_reason(error)}): is there memory?")
        for job in waiting[:1]:
            job.tries += 1
            if job.tries >= MOST_TRIES:
                job.reply = Reply(None, _poisoned(job), False, 0.0, ())
        self._queue.extendleft(job for job in reversed(waiting) if job.reply is None)
        self._actors.append(self._started())

    def _check_starts(self) -> None:
        late = [each for each in self._actors if each.facts is None and time.monotonic() - each.began_s > START_S]
        if late and not any(each.facts for each in self._actors):
            raise WorkersLost(f"no worker could be started within {START_S:.0f} s: has the cluster room for one?")

    def _assign(self) -> None:
        """Give out what waits to workers that have room; those without work come first."""
        for actor in sorted(self._actors, key=lambda each: len(each.calls)):
            while actor.facts and len(actor.calls) < WAITING and (job := self._next_for(actor)):
                self._queue.remove(job)
                actor.block = job.block
                actor.calls.append((self._call(actor, job), job))

    def _next_for(self, actor: _Actor) -> Job | None:
        """A window of its block, else of a block that nobody is at; of another's rather than none at all."""
        others = {each.block for each in self._actors if each is not actor}
        own = (job for job in self._queue if job.block == actor.block)
        free = (job for job in self._queue if job.block not in others)
        return next(own, None) or next(free, None) or (self._queue[0] if self._queue and not actor.calls else None)

    def _call(self, actor: _Actor, job: Job) -> Any:
        sent, contents = [], []
        for image in job.request.images:
            each, content = self._sent(image, job.by_place and not self._travels)
            sent.append(each)
            contents += [] if content is None else [content]
        files = tuple(str(image) for image in job.request.images if isinstance(image, Path))
        request = job.request
        call = Call(tuple(sent), files or None, request.extrinsics, request.intrinsics, request.decoded, job.options)
        return actor.handle.infer.remote(call, *contents)

    def _sent(self, image: Path | AllowedFile | Frame, by_place: bool) -> tuple[Sent, Any]:
        """How an image is told to a worker, and what travels of it: a frame once, though several windows show it."""
        assert not isinstance(image, AllowedFile), "requests over HTTP have no workers"
        place = place_of(image) if by_place else None
        if place is not None:
            return place, None
        if isinstance(image, Path):
            return Content(FilePlace.of(image)), self._ray.put(content_of(image))
        if image not in self._contents:
            self._frames += 1
            self._contents[image] = Content(self._frames), self._ray.put(content_of(image))
        return self._contents[image]

    def _log(self, told: Iterable[tuple[int, str]]) -> None:
        for level, text in told:
            if text not in self._known:
                self._known.add(text)
                logger.log(level, "%s", text)

    def _tell_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._told_s >= TOLD_EVERY_S:
            self._told_s = now
            logger.info("%s", self.told())


class RemoteModel(PresetModel):
    """The model of the workers, as far as it has to be known here; see `DepthAnything3`."""

    def __init__(self, facts: WorkerFacts, sharing: int) -> None:
        """Take over what a worker said; the memory of its machine is shared by so many."""
        self.preset, self.source, self.fingerprint = facts.preset, facts.source, facts.fingerprint
        self.engine, self.engine_status, self.warning = facts.engine, facts.engine_status, facts.warning
        self.precision_status = facts.precision_status
        self.device = torch.device(facts.device)
        free, own = facts.free_memory, self.device.type == "cuda"
        self.free_memory = FreeMemory(free.bytes if own else free.bytes // sharing, free.place)


class PoolInference(Generic[View]):
    """Windows inferred by workers, ahead of when they are asked for."""

    def __init__(
        self, pool: WorkerPool, request_of: RequestOf[View], options: InferenceOptions, log: WindowLog
    ) -> None:
        """Raises InputError for Gaussians, which are of one window and stay on the model's device."""
        if options.wants_gaussians:
            raise OptionError("Gaussians are inferred in one piece, which {workers} do not speed up: leave one out")
        self._pool, self._request_of, self._options, self._log = pool, request_of, options, log
        self._begun: dict[Hashable, Job] = {}
        self._input, self._windows = next(pool.inputs), count()

    def __call__(self, views: Sequence[View], decoded: Decoded = None) -> Prediction:
        job = self._begun.pop(tuple(views), None)
        if job is None or job.request.decoded != decoded:  # what was begun is another than what is asked
            job = self._begin(views, decoded)
        reply = self._pool.finish(job)
        error = None if reply.error is None else str(reply.error)
        self._log(WindowRow(len(views), job.worker, reply.seconds, job.tries, error))
        if reply.error is not None:
            raise reply.error
        assert reply.prediction is not None
        return from_bytes(reply.prediction)

    def ahead(
        self,
        windows: Iterable[Window],
        views_of: Callable[[Window], Sequence[View]],
        decoded_of: Callable[[Window], Decoded] = all_decoded,
    ) -> Iterator[Window]:
        read: deque[Window] = deque()
        for window in windows:
            read.append(window)
            views = views_of(window)
            if len(views):
                self._begun[tuple(views)] = self._begin(views, decoded_of(window))
            if len(read) > self._pool.most_ahead:
                yield read.popleft()
        while read:
            yield read.popleft()

    def _begin(self, views: Sequence[View], decoded: Decoded) -> Job:
        block = (self._input, next(self._windows) // BLOCK)
        return self._pool.begin(replace(self._request_of(views), decoded=decoded), self._options, block)


def _wants_gpu(ray: Any, options: ModelOptions) -> bool:
    """Whether every worker gets a GPU of its own."""
    return options.device.startswith("cuda") or (
        options.device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1
    )


def _poisoned(job: Job) -> ImageError:
    return ImageError(
        0, f"{job.tries} workers ended while they inferred the window of this image: memory may not suffice for it"
    )


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
