# SPDX-License-Identifier: Apache-2.0
"""Two nodes, one model: the process that both name holds it, and each has its own results."""

import signal
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from footage import Footage
from harness import Graph, newest_status, stamp_ns
from sensor_msgs.msg import Image

NODES = ("left", "right")
MODEL = {"model": "untrained:da3-small", "device": "cpu", "engine": "torch", "precision": "float32"}


def test_two_nodes_share_a_model(
    graph: Graph, footage: Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    parameters = MODEL | {"engine_process": "pair", "process_res": 56, "window.size": 1, "every_frame": "true"}
    nodes = [graph.start_node(parameters, "-r", f"__ns:=/{name}", exact=False) for name in NODES]
    camera = graph.camera()
    topics = {f"/{name}/da3/depth/image": Image for name in NODES}
    with graph.listen(topics) as inbox, graph.listen({"/diagnostics": DiagnosticArray}) as told:

        def depth_of(name: str, frame: int) -> bytes:
            """Asked for until there is one: the subscription of a node that has just begun may not be met yet."""
            heard = inbox[f"/{name}/da3/depth/image"]
            [image] = footage.images([frame])

            def answer() -> bytes | None:
                camera.publish(f"/{name}/image", image)
                return next((bytes(each.data) for each in heard if stamp_ns(each) == stamp_ns(image)), None)

            return graph.wait_for(f"depth of {name}", answer)

        depths = [depth_of(name, frame) for name, frame in (("left", 0), ("right", 5), ("right", 0))]

        def processes() -> list[str] | None:
            found = [newest_status(told["/diagnostics"], f"{name}/da3: inference") for name in NODES]
            values = [{pair.key: pair.value for pair in status.values} for status in found if status]
            names = [each.get("engine process", "") for each in values]
            return names if len(names) == 2 and all("shared by 2" in name for name in names) else None

        left, right = graph.wait_for("both to tell of the process", processes)
    assert left == right
    assert depths[0] == depths[2] != depths[1]
    assert [node.end(signal.SIGINT) for node in nodes] == [0, 0]
