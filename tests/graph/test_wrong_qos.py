# SPDX-License-Identifier: Apache-2.0
"""A QoS that does not exist: told, and the node can still be asked, cleaned up and ended."""

import signal

from harness import Graph
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState


def test_a_qos_that_does_not_exist_leaves_the_node_inactive(graph: Graph) -> None:
    node = graph.start_node({"qos_overrides./image.subscription.reliability": "perhaps"})
    graph.wait_for("the refusal", lambda: "Cannot activate: " in node.log)
    graph.wait_for(
        "the end of the transition",
        lambda: graph.call("/da3/get_state", GetState).current_state.id == State.PRIMARY_STATE_INACTIVE,
    )
    cleanup = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CLEANUP))
    assert graph.call("/da3/change_state", ChangeState, cleanup).success
    assert node.end(signal.SIGINT) == 0
