# SPDX-License-Identifier: Apache-2.0
"""A budget of memory in a real node: a smaller window is used and told, and one that nothing fits into is refused."""

from diagnostic_msgs.msg import DiagnosticArray
from harness import Graph, newest_status

MODEL = {"model": "untrained:da3-small", "device": "cpu", "process_res": 140, "window.size": 6}


def test_a_smaller_window_is_used_and_told_and_what_does_not_fit_is_refused(graph: Graph) -> None:
    node = graph.start_node({**MODEL, "memory.budget_mb": 60.0}, exact=False)
    with graph.listen({"/diagnostics": DiagnosticArray}) as inbox:
        status = graph.wait_for("diagnostics", lambda: newest_status(inbox["/diagnostics"], "da3: inference"))
    facts = {each.key: each.value for each in status.values}
    size, side = facts["window.size, process_res"].split(", ")
    assert 2 <= int(size) < 6
    assert side == "140"
    assert float(facts["memory of an inference, about, MB"]) <= 60
    assert f"windows of {size} images instead of 6" in node.log
    node.interrupt()
    node.wait()
    refused = graph.start_node({**MODEL, "memory.budget_mb": 1.0}, exact=False)
    graph.wait_for("the refusal", lambda: "Cannot configure: memory.budget_mb is 1" in refused.log)
