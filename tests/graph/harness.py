# SPDX-License-Identifier: Apache-2.0
"""Real processes on a DDS domain of their own, and a listener that waits on conditions and never sleeps."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import IO, Any, TypeVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import PointCloud2

from da3_ros.demo.domain import graph_environment

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ASK_AGAIN_S = 5.0
WAIT_S = 60.0  # a cold disk takes long to import a network
ENDING_S = 10.0
PR_SET_PDEATHSIG = 1

T = TypeVar("T")


def child_environment(domain_id: int) -> dict[str, str]:
    """What this process and all that it starts need: the domain, the checkout before an installation, one core each."""
    return {
        **graph_environment(domain_id),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": "1",
    }


def die_with_parent() -> None:
    """Runs in a child before exec: even a pytest that is killed leaves no node behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child with its own process group and its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path):
        self.name = name
        self.log_path = log
        self.may_end = False  # on its own; waiting for anything fails at once when a process ends that may not
        with log.open("wb") as sink:
            self._child = subprocess.Popen(
                [sys.executable, *command],
                cwd=REPOSITORY,
                env={**os.environ, "ROS_LOG_DIR": str(log.parent)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name == "publisher" else sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def stdin(self) -> IO[bytes]:
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self._child.stdout is not None
        return self._child.stdout

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.splitlines()[-lines:])

    def wait(self, timeout_s: float = WAIT_S) -> int:
        self.may_end = True
        return self._child.wait(timeout_s)

    def end(self, ending: signal.Signals) -> int:
        """Send a signal; the exit status."""
        self._child.send_signal(ending)
        return self.wait()

    def interrupt(self) -> None:
        """As Ctrl-C does, which lets a process write what its coverage is."""
        self.may_end = True
        if self.alive:
            self._child.send_signal(signal.SIGINT)

    def kill(self, after_s: float = 0.0) -> None:
        """End it at once, or when it has not ended by itself until then."""
        self.may_end = True
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(after_s)
        if self.alive:
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait(5)


class Camera:
    """The test's side of publisher.py: hands over messages and returns once they have left that process."""

    def __init__(self, process: Process):
        self.process = process

    def publish(self, topic: str, *messages: Any, latched: bool = False, readers: int = 1) -> None:
        """Publish in order, once at least `readers` subscriptions are matched."""
        for message in messages:
            cdr = serialize_message(message)
            package, _, name = type(message).__module__.partition(".")[0], "msg", type(message).__name__
            command = {"topic": topic, "type": f"{package}/msg/{name}", "size": len(cdr)}
            line = json.dumps({**command, "latched": latched, "readers": readers}).encode() + b"\n"
            self.process.stdin.write(line + cdr)
            self.process.stdin.flush()
            if self.process.stdout.readline() != b"sent\n":
                raise AssertionError(f"the publisher of {topic} failed:\n{self.process.log_tail()}")


class Inbox(dict[str, list[Any]]):
    """Messages by topic, in the order of arrival; filled by the listener's thread."""

    def __repr__(self) -> str:
        return f"Inbox({ {topic: len(messages) for topic, messages in self.items()} })"  # pixels would fill the screen

    def stamps(self, topic: str) -> list[int]:
        """Header stamps in nanoseconds."""
        return [stamp_ns(message) for message in self[topic]]


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def unpack(cloud: PointCloud2) -> np.ndarray:
    """The points by field name, every field a float32 as the fields say."""
    dtype = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": ["<f4"] * len(cloud.fields),
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    assert {"x", "y", "z", "rgb", "confidence"} <= set(dtype.names or ())
    assert cloud.row_step == cloud.width * cloud.point_step
    return np.frombuffer(cloud.data, dtype)


def newest_status(reports: Sequence[DiagnosticArray], name: str) -> DiagnosticStatus | None:
    """The last status of that name, or None."""
    return next((status for report in reversed(reports) for status in report.status if status.name == name), None)


class Goal:
    """One goal of an action: what is heard of it."""

    def __init__(self, graph: "Graph", client: ActionClient, goal: Any):
        self.feedback: list[Any] = []
        self._graph = graph
        self._sending = client.send_goal_async(goal, lambda message: self.feedback.append(message.feedback))
        graph.wait_for("an answer to the goal", self._sending.done)
        self._handle = self._sending.result()
        self._ending = self._handle.get_result_async() if self.accepted else None

    @property
    def accepted(self) -> bool:
        return self._handle.accepted

    @property
    def ended(self) -> bool:
        return self._ending is None or self._ending.done()

    def cancel(self) -> None:
        """Ask for the end; `result` tells when it has come."""
        asking = self._handle.cancel_goal_async()
        self._graph.wait_for("an answer to the cancel", asking.done)

    def result(self) -> tuple[int, Any]:
        """A status of action_msgs/GoalStatus and the result."""
        assert self._ending is not None
        self._graph.wait_for("the end of the goal", self._ending.done)
        return self._ending.result().status, self._ending.result().result


class Graph:
    """The processes of one test module and a node of ours that listens to and calls them."""

    def __init__(self, domain_id: int, folder: Path):
        self.domain_id = domain_id
        self.folder = folder
        self.processes: list[Process] = []
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self.node = Node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._arrival = threading.Condition()
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        for process in self.processes:
            process.interrupt()
        for process in self.processes:
            process.kill(ENDING_S)
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        self._context.try_shutdown()

    def _in_executor(self, do: Callable[[], T]) -> T:
        """Between two waits of the executor, which would otherwise meet a subscription that is just being destroyed."""
        done: Queue[T] = Queue()
        self._executor.create_task(lambda: done.put(do()))
        return done.get(timeout=WAIT_S)

    def start(self, name: str, *command: str) -> Process:
        """Run Python with `command` as a process of this graph."""
        log = self.folder / f"{len(self.processes)}_{name}.log"
        self.processes.append(Process(name, command, log))
        return self.processes[-1]

    def start_node(self, parameters: Mapping[str, Any], *arguments: str, exact: bool = True) -> Process:
        """The live node, with the model that knows the walk or with the real one."""
        given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        program = [str(HERE / "exact_node.py")] if exact else ["-m", "da3_ros.node"]
        return self.start("node", *program, "--ros-args", *given, *arguments)

    def camera(self) -> Camera:
        return Camera(self.start("publisher", str(HERE / "publisher.py")))

    def wait_for(self, what: str, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        """The first true value of `condition`, looked at after every arrival; fails when it stays false."""
        deadline = time.monotonic() + timeout_s
        with self._arrival:
            while not (value := condition()):
                if time.monotonic() > deadline:
                    raise AssertionError(f"{what}: not within {timeout_s:.0f} s")
                if dead := [process.name for process in self.processes if not process.alive and not process.may_end]:
                    raise AssertionError(f"{what}: {dead[0]} has ended")
                self._arrival.wait(0.05)
            return value

    @contextmanager
    def listen(self, topics: Mapping[str, type], latched: bool = False) -> Iterator[Inbox]:
        """Subscribe for the length of a block; on entry every topic has a matched publisher."""
        inbox = Inbox({topic: [] for topic in topics})
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        qos = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=durability)

        def receive(topic: str, message: Any) -> None:
            with self._arrival:
                inbox[topic].append(message)
                self._arrival.notify_all()

        def subscribe() -> dict[str, Subscription]:
            return {
                topic: self.node.create_subscription(kind, topic, lambda m, topic=topic: receive(topic, m), qos)
                for topic, kind in topics.items()
            }

        subscriptions = self._in_executor(subscribe)
        try:
            for topic, subscription in subscriptions.items():
                self.wait_for(f"a publisher of {topic}", subscription.get_publisher_count)
            yield inbox
        finally:
            self._in_executor(lambda: [self.node.destroy_subscription(each) for each in subscriptions.values()])

    def latched(self, topic: str, kind: type) -> Any:
        """The message that is kept for who subscribes now."""
        with self.listen({topic: kind}, latched=True) as inbox:
            return self.wait_for(f"what {topic} keeps", lambda: inbox[topic] and inbox[topic][-1])

    @contextmanager
    def action(self, name: str, kind: type) -> Iterator[Callable[[Any], Goal]]:
        """A function that sends a goal and returns once it is accepted or rejected."""
        client = self._in_executor(lambda: ActionClient(self.node, kind, name))
        try:
            self.wait_for(f"the action {name}", client.server_is_ready)
            yield lambda goal: Goal(self, client, goal)
        finally:
            self._in_executor(client.destroy)

    def call(self, service: str, kind: type, request: Any = None, timeout_s: float = WAIT_S) -> Any:
        """One service call; a question that only asks is asked again, since a server may not have met us yet."""
        client = self._in_executor(lambda: self.node.create_client(kind, service))
        try:
            self.wait_for(f"the service {service}", client.service_is_ready, timeout_s)
            asks_only = kind.__name__.startswith(("Get", "List", "Describe"))
            start_s, futures = time.monotonic(), []

            def answer() -> Any:
                if not futures or (asks_only and time.monotonic() - start_s > len(futures) * ASK_AGAIN_S):
                    futures.append(client.call_async(request if request is not None else kind.Request()))
                return next((future.result() for future in futures if future.done()), None)

            return self.wait_for(f"an answer of {service}", answer, timeout_s)
        finally:
            self._in_executor(lambda: self.node.destroy_client(client))
