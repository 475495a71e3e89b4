# SPDX-License-Identifier: Apache-2.0
"""`~/process_bag` and its action on a running node: what `da3 bag` writes, beside a stream that goes on."""

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from da3_ros.action import ProcessBag as ProcessBagAction
from da3_ros.msg import DepthWindow
from da3_ros.srv import ProcessBag
from footage import Footage
from geometry_msgs.msg import PoseStamped
from harness import Camera, Goal, Graph, Process, stamp_ns
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from da3_core.synthetic import Walk
from da3_core.synthetic.bag import write_bag
from da3_core.synthetic.exact import ExactModel

pytest.importorskip("rosbags", reason="needs the package rosbags")

from rosbags.highlevel import AnyReader

from da3_core.bag.camera import RecordedCamera
from da3_core.bag.options import BagOptions
from da3_core.bag.process import process_bag
from da3_core.bag.read import BagReader
from da3_core.options import InferenceOptions, PointOptions
from da3_core.stream.inference import bind_inference

WINDOW, LAPS = 3, 12
SUCCEEDED, CANCELED, ABORTED = GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED
DEPTH, POSE = "/da3/depth/image", "/da3/pose"


class Node:
    """A node that uses every image, reads bags in `bags` and writes to `results`."""

    def __init__(self, graph: Graph, footage: Footage):
        self.graph, self.footage, self.walk = graph, footage, footage.walk
        self.bags, self.results = graph.folder / "bags", graph.folder / "results"
        self.process: Process = graph.start_node(
            {
                "every_frame": "true",
                "window.size": WINDOW,
                "process_res": self.walk.images.shape[2],
                "bag.root": self.bags,
                "export.root": self.results,
            }
        )
        self.camera: Camera = graph.camera()

    def ask(self, input_bag: str, **fields: Any) -> ProcessBag.Response:
        request = ProcessBag.Request(input_bag=input_bag, **fields)
        return self.graph.call("/da3/process_bag", ProcessBag, request)

    def play(self, frames: range) -> list[DepthWindow]:
        """The windows that came of these frames of the walk, when all have gone through the model."""
        images = self.footage.images([frame % len(self.walk) for frame in frames])
        with self.graph.listen({"/da3/window": DepthWindow}) as inbox:
            self.camera.publish("/image", *images)
            last = stamp_ns(images[-1])
            self.graph.wait_for(
                "the last window", lambda: inbox["/da3/window"] and inbox.stamps("/da3/window")[-1] == last
            )
        return inbox["/da3/window"]

    def change(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.graph.call("/da3/change_state", ChangeState, request).success

    def files(self) -> set[str]:
        return {str(path.relative_to(self.results)) for path in self.results.rglob("*")}


@pytest.fixture(scope="module")
def node(graph: Graph, footage: Footage) -> Node:
    """`bags/walk` is the walk, `bags/long` the walk so many times that there is time to do something meanwhile."""
    node = Node(graph, footage)
    walk = footage.walk
    write_bag(walk, node.bags / "walk")
    laps = {name: np.concatenate([getattr(walk, name)] * LAPS) for name in ("images", "depth_m", "camera_to_world")}
    write_bag(replace(walk, **laps), node.bags / "long")
    graph.wait_for("an active node", lambda: "Active: windows of" in node.process.log)
    return node


@pytest.fixture
def send(node: Node) -> Iterator[Callable[..., Goal]]:
    """`send(bag, **fields)` sends a goal."""
    with node.graph.action("/da3/process_bag_action", ProcessBagAction) as send:
        yield lambda input_bag, **fields: send(ProcessBagAction.Goal(input_bag=input_bag, **fields))


def read(bag: str | Path) -> dict[str, list[tuple[int, bytes]]]:
    """Times and bytes by topic."""
    with AnyReader([Path(bag)]) as reader:
        content: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in reader.topics}
        for connection, time_ns, raw in reader.messages():
            content[connection.topic].append((time_ns, raw))
        return content


def depths(content: dict[str, list[tuple[int, bytes]]]) -> np.ndarray:
    """`(N, H, W)`."""
    images = [deserialize_message(raw, Image) for _, raw in content[DEPTH]]
    return np.stack([np.frombuffer(each.data, np.float32).reshape(each.height, each.width) for each in images])


def positions(content: dict[str, list[tuple[int, bytes]]]) -> np.ndarray:
    """`(N, 3)`."""
    poses = [deserialize_message(raw, PoseStamped).pose.position for _, raw in content[POSE]]
    return np.array([[each.x, each.y, each.z] for each in poses])


def units(walk: Walk, depth: np.ndarray, first: int = 0) -> np.ndarray:
    """Map units per metre of `(N, H, W)` depth of frames of the walk from `first` on; but for them it is true."""
    frames = np.arange(first, first + len(depth)) % len(walk)
    ratio = depth / walk.depth_m[frames]
    found = np.median(ratio, (1, 2))
    np.testing.assert_allclose(ratio, np.broadcast_to(found[:, None, None], ratio.shape), rtol=1e-3)
    return found


def test_before_any_image_of_the_stream_the_bag_is_the_one_that_the_library_writes(node: Node):
    answer = node.ask("walk", output_bag="from the node", points=True, copy_topics=["/ground_truth/pose"])
    assert answer.success, answer.message
    assert (answer.frames, answer.message) == (len(node.walk), f"Inferred {len(node.walk)} images in 1 map.")
    assert answer.output_bag == str(node.results / "from the node")

    options = BagOptions(window=WINDOW, points=PointOptions(), copy_topics="/ground_truth/pose")
    with BagReader(node.bags / "walk") as bag:
        process_bag(
            RecordedCamera(bag, options),
            bind_inference(ExactModel(node.walk), InferenceOptions(process_res=node.walk.images.shape[2])),
            options,
            node.graph.folder / "from the library",
            "mcap",
            model_name="auto",
            advance=lambda count: None,
            stop=lambda: False,
            on_result=lambda result, session: None,
        )
    live, offline = read(answer.output_bag), read(node.graph.folder / "from the library")
    assert live.keys() == offline.keys()
    for topic in live:
        assert [time_ns for time_ns, _ in live[topic]] == [time_ns for time_ns, _ in offline[topic]], topic
    np.testing.assert_allclose(depths(live), depths(offline), rtol=1e-6)
    np.testing.assert_allclose(positions(live), positions(offline), rtol=1e-6, atol=1e-9)
    assert len(live["/ground_truth/pose"]) == len(live["/da3/points"]) == len(node.walk)


def test_a_goal_tells_how_far_it_is_and_exports(node: Node, send: Callable[..., Goal]):
    goal = send(
        "walk",
        storage="sqlite3",
        start_s=0.5,
        every=2,
        window=2,
        window_messages=False,
        export_format="tum-mini_npz",
        export_directory="walked",
    )
    assert goal.accepted
    status, result = goal.result()
    assert (status, result.success) == (SUCCEEDED, True), result.message
    frames = (len(node.walk) - 5 + 1) // 2
    assert result.frames == frames
    assert result.output_bag == str(node.results / "walk_da3")
    assert list(Path(result.output_bag).glob("*.db3"))
    assert not read(result.output_bag)["/da3/window"]
    assert {Path(file) for file in result.files} == {
        node.results / "walked/trajectory.txt",
        node.results / "walked/exports/mini_npz/results.npz",
    }
    assert len((node.results / "walked/trajectory.txt").read_text().splitlines()) >= frames

    done = [each.frames_done for each in goal.feedback]
    assert done == sorted(done)
    assert {0, frames} <= set(done)
    assert len(set(done)) > 5
    assert [each.stage for each in goal.feedback] == ["infer"] * (len(done) - 1) + ["export"]
    first, last = goal.feedback[0], goal.feedback[-1]
    assert np.isnan([first.frames_per_s, first.eta_s]).all()
    assert first.frames_total == pytest.approx(frames, abs=1)
    assert (last.frames_total, last.percent, last.eta_s) == (frames, 100, 0)
    assert last.frames_per_s > 0


def test_transforms_of_the_recording_give_metres(node: Node):
    answer = node.ask("walk", output_bag="metres", duration_s=0.75, pose_source="tf", odom_frame="world")
    assert (answer.success, answer.frames) == (True, 8), answer.message
    content = read(answer.output_bag)
    np.testing.assert_allclose(units(node.walk, depths(content)), 1, rtol=1e-3)
    np.testing.assert_allclose(positions(content), node.walk.camera_to_world[:8, :3, 3], atol=1e-3)


def begun(node: Node, goal: Goal) -> None:
    assert goal.accepted
    node.graph.wait_for("some images done", lambda: goal.feedback and goal.feedback[-1].frames_done > WINDOW)


def assert_shorter(node: Node, result: Any) -> None:
    """What was ended early is a bag of the first frames, whole."""
    assert not result.success
    assert WINDOW < result.frames < LAPS * len(node.walk)
    assert result.message == f"Ended early; the bag holds the {result.frames} images in 1 map until then."
    content = read(result.output_bag)
    assert len(content[DEPTH]) == len(content[POSE]) == result.frames
    assert np.ptp(units(node.walk, depths(content))) < 1e-3
    assert not list(node.results.glob(".*"))


def test_one_at_a_time_and_a_cancelled_one_is_shorter(node: Node, send: Callable[..., Goal]):
    goal = send("long", output_bag="cancelled", export_format="tum")
    begun(node, goal)
    assert not send("walk", output_bag="second").accepted
    assert node.ask("walk", output_bag="second").message == "Another bag is running; ask again when it has ended."
    assert not goal.ended
    goal.cancel()
    status, result = goal.result()
    assert status == CANCELED
    assert_shorter(node, result)
    assert list(result.files) == []
    assert "Another bag is running" in node.process.log


def test_the_stream_goes_on_and_neither_mixes_with_the_other(node: Node, send: Callable[..., Goal]):
    windows = node.play(range(5))
    goal = send("long", output_bag="beside the stream")
    begun(node, goal)
    during = 0
    for frame in range(5, 15):
        windows += node.play(range(frame, frame + 1))
        during += not goal.ended
    assert during > 5
    done = goal.feedback[-1].frames_done
    goal.cancel()
    status, result = goal.result()
    assert status == CANCELED
    assert_shorter(node, result)
    assert result.frames >= done > WINDOW

    live = np.stack([np.frombuffer(window.views[-1].depth.data, np.float32) for window in windows])
    live_units = units(node.walk, live.reshape(-1, *node.walk.depth_m.shape[1:]), first=WINDOW - 1)
    offline_units = units(node.walk, depths(read(result.output_bag)))
    for each in (live_units, offline_units):
        np.testing.assert_allclose(each, each[0], rtol=1e-3)
    assert all(window.alignment_residual < 1e-3 for window in windows[1:])


def test_a_paused_node_has_time_for_bags(node: Node):
    assert node.graph.call("/da3/pause", SetBool, SetBool.Request(data=True)).success
    answer = node.ask("walk", output_bag="while paused", duration_s=0.45)
    assert (answer.success, answer.frames) == (True, 5), answer.message
    assert node.graph.call("/da3/pause", SetBool, SetBool.Request(data=False)).success


ATTACKS: list[tuple[str, dict[str, Any]]] = [
    ("relative to the parameter bag.root", {"input_bag": "../results/from the node"}),
    ("relative to the parameter bag.root", {"input_bag": "/etc/passwd"}),
    ("leads out of the parameter bag.root", {"input_bag": "out.mcap"}),
    ("leads out of the parameter bag.root", {"input_bag": "linked"}),
    ("longer than the 255 bytes", {"input_bag": "n" * 300}),
    ("relative to the parameter export.root", {"output_bag": "../up"}),
    ("relative to the parameter export.root", {"output_bag": "/tmp/up"}),
    ("control characters", {"output_bag": "new\nline"}),
    ("leads out of the parameter export.root", {"output_bag": "out/up"}),
    ("leads out of the parameter export.root", {"export_format": "tum", "export_directory": "out"}),
    ("exists", {"output_bag": "from the node"}),
    ("no topic '(a+)+$' to copy", {"copy_topics": ["(a+)+$"]}),
    ("'start_s' is 99 s", {"start_s": 99.0}),
    ("'image_topics' names one topic twice", {"image_topics": ["/a", "/a"]}),
]


def test_nothing_is_read_or_written_outside(node: Node):
    outside = node.graph.folder / "outside"
    outside.mkdir()
    write_bag(replace(node.walk, images=node.walk.images[:2]), outside / "secret")
    (node.bags / "out.mcap").symlink_to(outside / "secret/secret.mcap")
    (node.bags / "linked").mkdir()
    (node.bags / "linked/linked_0.mcap").symlink_to(outside / "secret/secret.mcap")
    (node.results / "out").symlink_to(outside)
    before, secret = node.files(), sorted(outside.rglob("*"))
    for reason, fields in ATTACKS:
        answer = node.ask(**{"input_bag": "walk", "output_bag": "attack", **fields})
        assert not answer.success, fields
        assert reason in answer.message
        assert answer.message.endswith(".")
        assert len(answer.message) < 600
        assert (answer.output_bag, list(answer.files), answer.frames) == ("", [], 0)
    assert node.files() == before
    assert sorted(outside.rglob("*")) == secret
    assert not (node.graph.folder / "up").exists()


def test_bad_bags_are_said_and_survived(node: Node, send: Callable[..., Goal]):
    before = node.files()
    storage = next((node.bags / "walk").glob("*.mcap")).read_bytes()
    (node.bags / "noise.mcap").write_bytes(b"no bag" * 1000)
    (node.bags / "empty").mkdir()
    shutil.copytree(node.results / "from the node", node.bags / "no camera")
    write_bag(replace(node.walk, images=255 - node.walk.images), node.bags / "elsewhere")
    for name, reason in (
        ("nothing", "There is no 'nothing' in"),
        ("noise.mcap", "is damaged"),
        ("empty", "holds no file ending in"),
        ("no camera", "no topic with images"),
        ("elsewhere", "is none of the"),  # the model fails
    ):
        status, result = send(name, output_bag="bad").result()
        assert (status, result.success, result.output_bag) == (ABORTED, False, ""), result.message
        assert reason in result.message
        assert result.message.endswith(".")
    assert node.files() == before

    (node.bags / "cut.mcap").write_bytes(storage[: 2 * len(storage) // 3])
    status, result = send("cut.mcap", output_bag="from a cut one").result()
    assert (status, result.success) == (ABORTED, False)
    assert "is damaged" in result.message
    assert f"the bag holds what could be read, {result.frames} images in 1 map" in result.message
    assert len(read(result.output_bag)[DEPTH]) == result.frames > WINDOW
    node.play(range(15, 16))


def test_a_reset_ends_what_is_at_work(node: Node, send: Callable[..., Goal]):
    goal = send("long", output_bag="reset")
    begun(node, goal)
    assert node.graph.call("/da3/reset", Trigger).success
    status, result = goal.result()
    assert status == ABORTED
    assert_shorter(node, result)


def test_a_deactivation_ends_what_is_at_work(node: Node, send: Callable[..., Goal]):
    goal = send("long", output_bag="deactivated")
    begun(node, goal)
    node.change(Transition.TRANSITION_DEACTIVATE)
    assert (node.results / "deactivated/metadata.yaml").exists()
    status, result = goal.result()
    assert status == ABORTED
    assert_shorter(node, result)
    assert node.ask("walk", output_bag="inactive").message == "The node is not active; activate it first."
    node.change(Transition.TRANSITION_CLEANUP)
    node.change(Transition.TRANSITION_CONFIGURE)
    node.change(Transition.TRANSITION_ACTIVATE)


def test_an_interrupt_ends_what_is_at_work_and_the_node(node: Node, send: Callable[..., Goal]):
    goal = send("long", output_bag="interrupted")
    begun(node, goal)
    assert node.process.end(signal.SIGINT) == 0
    assert len(read(node.results / "interrupted")[DEPTH]) > WINDOW
    assert not list(node.results.glob(".*"))
    assert "Traceback" not in node.process.log
