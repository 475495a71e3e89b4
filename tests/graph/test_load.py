# SPDX-License-Identifier: Apache-2.0
"""The live node under load and without any: newest wins in bounded memory, and silence is noticed and forgiven."""

import psutil
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from footage import Footage
from harness import Camera, Graph, Process, newest_status, stamp_ns
from sensor_msgs.msg import Image

from da3_core.synthetic import Walk

DEPTH = "/da3/depth/image"
FLOOD = 800
GROWTH_MB = 15.0


@pytest.fixture(scope="module")
def node(graph: Graph, walk: Walk) -> Process:
    return graph.start_node({"window.size": 2, "process_res": walk.images.shape[2] // 2, "watchdog_s": 1.5})


def private_bytes(process: Process) -> int:
    """Without the shared memory of the middleware, which is of a fixed size and touched bit by bit."""
    return psutil.Process(process.pid).memory_full_info().uss


def play_until_seen(graph: Graph, camera: Camera, footage: Footage) -> None:
    """Publish one image after the other until depth of one of them comes out."""
    first = None
    with graph.listen({DEPTH: Image}) as inbox:

        def published_and_seen() -> bool:
            nonlocal first
            (image,) = footage.images([len(footage.frame_at) % len(footage.walk)])
            first = first or stamp_ns(image)
            camera.publish("/image", image)
            return any(stamp >= first for stamp in inbox.stamps(DEPTH))

        graph.wait_for("depth", published_and_seen)


def test_a_flood_of_images_leaves_memory_flat_and_the_newest_wins(
    graph: Graph, node: Process, footage: Footage
) -> None:
    """As many images as fast as they can be sent: what is used and what is skipped add up, memory does not grow."""
    camera = graph.camera()
    play_until_seen(graph, camera, footage)
    camera.publish("/image", *footage.images([i % len(footage.walk) for i in range(FLOOD // 4)]))
    before = private_bytes(node)
    with graph.listen({DEPTH: Image, "/diagnostics": DiagnosticArray}) as inbox:
        camera.publish("/image", *footage.images([i % len(footage.walk) for i in range(FLOOD)]))
        play_until_seen(graph, camera, footage)
        stamps = inbox.stamps(DEPTH)
        assert stamps == sorted(set(stamps))
        assert len(stamps) < FLOOD

        def settled() -> dict[str, int] | None:
            status = newest_status(inbox["/diagnostics"], "da3: input")
            values = {each.key: each.value for each in status.values} if status else {}
            counts = {name: int(values.get(name, 0)) for name in ("received", "used", "skipped", "refused", "waiting")}
            return counts if counts["used"] >= len(stamps) else None

        counts = graph.wait_for("a report", settled)
    assert counts["skipped"] > 0
    assert counts["received"] == counts["used"] + counts["skipped"] + counts["refused"] + counts["waiting"]
    growth_mb = (private_bytes(node) - before) / 1e6
    assert growth_mb < GROWTH_MB
    camera.process.kill()


def test_a_killed_camera_is_noticed_and_its_return_too(graph: Graph, node: Process, footage: Footage) -> None:
    camera = graph.camera()
    play_until_seen(graph, camera, footage)
    with graph.listen({"/diagnostics": DiagnosticArray}) as inbox:

        def level_is(level: bytes) -> DiagnosticStatus | None:
            status = newest_status(inbox["/diagnostics"], "da3: input")
            return status if status is not None and status.level == level else None

        camera.process.kill()
        silence = graph.wait_for("a warning", lambda: level_is(DiagnosticStatus.WARN))
        assert "No image on /image" in silence.message
        play_until_seen(graph, graph.camera(), footage)
        graph.wait_for("all well", lambda: level_is(DiagnosticStatus.OK))
    assert node.alive
