# SPDX-License-Identifier: Apache-2.0
"""Tasks one after the other, in a thread of their own: a bounded queue, progress, cancelling, a memory of the past."""

from __future__ import annotations

import logging
import threading
import time
import traceback
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from da3_core.errors import InputError, OptionError
from da3_core.web.backend.schema import State, TaskResult, TaskStatus, field_of
from da3_core.web.backend.store import StoreError, TaskStore

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 256 << 20  # of all tasks that are remembered; more are taken when some of these are dropped
MAX_ATTEMPTS = 2  # at a task during which the backend ended
MAX_DROPPED = 10_000  # ids
DROPPED_SECONDS = 24 * 3600.0  # for which it is known that there was a task
_FIRST_GUESS_SECONDS = 10.0  # of a task, before one was done


class QueueFullError(Exception):
    """No more tasks are taken now; `retry_after` seconds may help."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full: try again in about {retry_after} s")
        self.retry_after = retry_after


class StoppingError(Exception):
    """The backend is about to end and takes no tasks."""

    def __init__(self) -> None:
        super().__init__("the backend is stopping: start it again")


class UnknownTaskError(Exception):
    """There is no such task.

    Attributes:
        was_dropped: there was one, and it is forgotten.
    """

    def __init__(self, task_id: str, was_dropped: bool) -> None:
        why = "was finished and is no longer kept" if was_dropped else "does not exist"
        super().__init__(f"task {task_id!r} {why}")
        self.was_dropped = was_dropped


class _Cancelled(Exception):
    """Ends the work of a cancelled task."""


class Progress:
    """How the work of a task says how far it is, and learns that it is no longer wanted."""

    def __init__(
        self, report: Callable[[str, float], None], is_cancelled: Callable[[], bool], limit_seconds: float | None
    ) -> None:
        self._report = report
        self._is_cancelled = is_cancelled
        self._limit_seconds = limit_seconds
        self._start = time.monotonic()
        self.timings: dict[str, float] = {}

    def check(self) -> None:
        """Ends the work here if the task is cancelled or has taken too long."""
        if self._is_cancelled():
            raise _Cancelled
        if self._limit_seconds is not None and time.monotonic() - self._start > self._limit_seconds:
            raise OptionError(
                "the task took longer than the {seconds:g} s that {max_task_seconds} allows: ask for less, or allow "
                "more",
                seconds=self._limit_seconds,
            )

    def report(self, message: str, progress: float) -> None:
        """Ends the work as `check` does."""
        self.check()
        self._report(message, progress)

    @contextmanager
    def part(self, name: str, total: int, unit: str, begin: float, end: float) -> Iterator[Callable[[int], None]]:
        """A stage of the work, see `processing.Stage`, that takes the progress from `begin` to `end`."""
        start, done = time.perf_counter(), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.report(f"{name}: {done} of {total} {unit}", begin + (end - begin) * done / total)

        self.report(f"{name}: 0 of {total} {unit}", begin)
        yield advance
        self.timings[name] = round(time.perf_counter() - start, 3)


Work = Callable[[Progress], TaskResult | None]
Kind = Literal["inference", "reload"]


@dataclass(eq=False)
class _Task:
    """Changed only under the lock of its queue, but for `is_cancelled`.

    Attributes:
        request: JSON of which the work can be made anew; empty where there is none.
        attempts: how often it was begun.
    """

    kind: Kind
    work: Work | None
    about: dict[str, Any] = field(default_factory=dict)
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    request: str = ""
    attempts: int = 0
    state: State = "pending"
    message: str = "waiting"
    progress: float | None = 0.0
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    completed_at: float | None = None
    result: TaskResult | None = None
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def kept(cls, row: Mapping[str, Any]) -> _Task:
        """A task as `row` said it."""
        result = row["result"] and TaskResult.model_validate_json(row["result"])
        return cls(work=None, **{**row, "result": result})

    def row(self) -> dict[str, Any]:
        """What a `TaskStore` keeps of it."""
        names = ("task_id", "kind", "state", "message", "progress", "created_at", "started_at", "completed_at")
        values = {name: getattr(self, name) for name in (*names, "attempts", "request")}
        return values | {"result": self.result and self.result.model_dump_json()}

    def status(self, queue_position: int | None) -> TaskStatus:
        return TaskStatus(
            task_id=self.task_id,
            kind=self.kind,
            status=self.state,
            message=self.message,
            progress=self.progress,
            queue_position=queue_position,
            created_at=self.created_at,
            started_at=self.started_at,
            completed_at=self.completed_at,
            result=self.result,
            **self.about,
        )


class TaskQueue:
    """Runs tasks in the order in which they came; every method may be called from any thread."""

    def __init__(
        self,
        *,
        size: int = 100,
        retention_seconds: float = 600.0,
        limit_seconds: float | None = None,
        store: TaskStore | None = None,
    ) -> None:
        """
        Args:
            size: most tasks that wait.
            limit_seconds: a task that runs longer ends.
            retention_seconds: how long a finished task is remembered.
            store: where tasks are kept, see `restore`; None keeps them in memory.
        """
        self._store = store or TaskStore()
        self._size = size
        self._limit_seconds = limit_seconds
        self._retention_seconds = retention_seconds
        self._changed = threading.Condition()
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._waiting: deque[_Task] = deque()
        self._running: _Task | None = None
        self._dropped: OrderedDict[str, float] = OrderedDict()
        self._durations: deque[float] = deque(maxlen=10)
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="tasks", daemon=True)

    @property
    def has_ended(self) -> bool:
        """Whether no task runs and none will."""
        return not self._worker.is_alive()

    def start(self) -> None:
        self._worker.start()

    def restore(self, remake: Callable[[Kind, str], tuple[Work, dict[str, Any]]]) -> None:
        """Take up what is in the store, before `start`: finished tasks answer, others wait for their turn.

        One during which the backend ended is begun once more, so that none can end the backend again and again.

        Args:
            remake: the work and `about` of a task from its kind and its request; may raise InputError.
        """
        with self._changed:
            self._dropped.update(self._store.dropped())
            for row in self._store.tasks():
                task = _Task.kept(row)
                self._tasks[task.task_id] = task
                try:
                    task.work, task.about = remake(task.kind, task.request)
                except InputError as error:
                    if task.completed_at is None:
                        self._end(task, "failed", error.spelled(field_of))
                    continue
                if task.completed_at is not None:
                    task.work = None
                elif task.attempts >= MAX_ATTEMPTS:
                    self._end(task, "failed", f"interrupted: the backend ended {task.attempts} times while it ran")
                else:
                    if task.attempts:
                        task.message = "waiting again: the backend ended while it ran"
                    task.state, task.started_at, task.progress = "pending", None, 0.0
                    self._waiting.append(task)

    def submit(
        self,
        work: Work,
        about: dict[str, Any] | None = None,
        kind: Kind = "inference",
        request: str = "",
    ) -> str:
        """The id of the new task, which is kept by then.

        Args:
            work: run when its turn comes.
            about: further fields of its `TaskStatus`.
            kind: of the work.
            request: see `restore`.

        Raises:
            QueueFullError: too many wait already, or are remembered.
            StoreError: it cannot be kept.
            StoppingError: `stop` was called.
        """
        with self._changed:
            if self._stopping:
                raise StoppingError
            if sum(len(task.request) for task in self._tasks.values()) + len(request) > MAX_REQUEST_BYTES:
                raise QueueFullError(max(1, round(self._retention_seconds)))
            if len(self._waiting) >= self._size:
                usual = sum(self._durations) / len(self._durations) if self._durations else _FIRST_GUESS_SECONDS
                raise QueueFullError(max(1, round(usual)))
            task = _Task(kind, work, about or {}, request=request)
            self._store.save(task.row())
            self._tasks[task.task_id] = task
            self._waiting.append(task)
            self._changed.notify_all()
            return task.task_id

    def status(self, task_id: str) -> TaskStatus:
        """Raises UnknownTaskError."""
        with self._changed:
            return self._status(self._find(task_id))

    def statuses(self) -> list[TaskStatus]:
        """Of all tasks that are remembered, oldest first."""
        with self._changed:
            return [self._status(task) for task in self._tasks.values()]

    def cancel_or_forget(self, task_id: str) -> str:
        """Take a waiting task out, ask a running one to end, or forget a finished one; says which in a sentence.

        Raises:
            UnknownTaskError: there is none.
        """
        with self._changed:
            task = self._find(task_id)
            if task is self._running:
                task.is_cancelled.set()
                task.message = "cancelling"
                return f"task {task_id} ends at the next point where it can"
            if task.state == "pending":
                self._waiting.remove(task)
                self._end(task, "cancelled", "cancelled before it began")
                return f"task {task_id} is cancelled"
            self._forget(task)
        return f"task {task_id} is forgotten"

    def drop_old(self) -> int:
        """Forget finished tasks that are too old; how many wait or run."""
        now = time.time()
        with self._changed:
            for task in list(self._tasks.values()):
                if task.completed_at is not None and now - task.completed_at > self._retention_seconds:
                    self._forget(task)
            while self._dropped and (
                len(self._dropped) > MAX_DROPPED or now - next(iter(self._dropped.values())) > DROPPED_SECONDS
            ):
                with self._kept_as_far_as_possible():
                    self._store.forget_dropped(self._dropped.popitem(last=False)[0])
            return sum(task.completed_at is None for task in self._tasks.values())

    def stop(self, timeout: float) -> None:
        """Take no more tasks, fail those that wait, ask the running one to end, and wait for that.

        A task that does not end in time is failed, though its thread still runs.
        """
        with self._changed:
            self._stopping = True
            while self._waiting:
                self._end(self._waiting.popleft(), "failed", "the backend was stopped before the task began")
            if self._running:
                self._running.is_cancelled.set()
            self._changed.notify_all()
        if self._worker.is_alive():
            self._worker.join(timeout)
        with self._changed:
            if self._running:
                self._end(self._running, "failed", "the backend was stopped while the task ran")

    def _find(self, task_id: str) -> _Task:
        if task_id not in self._tasks:
            raise UnknownTaskError(task_id, task_id in self._dropped)
        return self._tasks[task_id]

    def _status(self, task: _Task) -> TaskStatus:
        position = self._waiting.index(task) + (self._running is not None) if task in self._waiting else None
        return task.status(position)

    def _end(self, task: _Task, state: State, message: str) -> None:
        task.state, task.message, task.completed_at = state, message, time.time()
        task.work = None  # and the images and arrays that it holds
        with self._kept_as_far_as_possible():
            self._store.save(task.row())
        logger.info("task %s: %s, %s", task.task_id, state, message)

    def _forget(self, task: _Task) -> None:
        del self._tasks[task.task_id]
        self._dropped[task.task_id] = time.time()
        with self._kept_as_far_as_possible():
            self._store.drop(task.task_id, self._dropped[task.task_id])

    @contextmanager
    def _kept_as_far_as_possible(self) -> Iterator[None]:
        """A full disk ends no task; only a restart would not know what became of it."""
        try:
            yield
        except StoreError as error:
            logger.warning("%s", error)

    def _work(self) -> None:
        while task := self._next():
            state, message, result = self._run(task)
            with self._changed:
                self._running = None
                if task.completed_at is None:  # else `stop` did not wait for it
                    task.result = result
                    task.progress = 1.0 if state == "completed" else task.progress
                    self._durations.append(time.time() - (task.started_at or 0))
                    self._end(task, state, message)

    def _next(self) -> _Task | None:
        """The task to run now; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if self._stopping:
                return None
            task = self._running = self._waiting.popleft()
            task.state, task.started_at = "running", time.time()
            task.attempts += 1
            with self._kept_as_far_as_possible():
                self._store.save(task.row())
            return task

    def _run(self, task: _Task) -> tuple[State, str, TaskResult | None]:
        def report(message: str, progress: float) -> None:
            with self._changed:
                task.message, task.progress = message, progress

        assert task.work is not None
        start = time.perf_counter()
        try:
            result = task.work(Progress(report, task.is_cancelled.is_set, self._limit_seconds))
        except _Cancelled:
            if self._stopping:
                return "failed", "the backend was stopped while the task ran", None
            return "cancelled", f"cancelled after {time.perf_counter() - start:.1f} s", None
        except InputError as error:
            return "failed", error.spelled(field_of), None
        except Exception as error:
            logger.error("task %s:\n%s", task.task_id, traceback.format_exc())
            first_line = str(error).partition("\n")[0]
            return "failed", f"{type(error).__name__}: {first_line} (the backend's log shows where)", None
        again = ", begun again after the backend had ended" if task.attempts > 1 else ""
        return "completed", f"done in {time.perf_counter() - start:.1f} s{again}", result
