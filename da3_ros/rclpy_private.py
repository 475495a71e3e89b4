# SPDX-License-Identifier: Apache-2.0
"""What the node needs of rclpy and rclpy does not promise. Checked with rclpy 9.1.2 (Kilted) and 7.1.6 (Jazzy)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node


def lifecycle_state(node: "LifecycleNode") -> str:
    """`inactive` and the like. The public way is a service, which a callback of the node itself cannot wait for."""
    return str(node._state_machine.current_state[1])


def given_parameters(node: "Node") -> dict[str, Any]:
    """Values by name of what the command line, files and launch files set.

    The public ways give one only when its name is declared, and we refuse the names that nobody declares.
    """
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def publisher_gid(info: Any) -> bytes:
    """Of who sent a message, from what a callback is told beside it; empty where that says nothing (before Kilted)."""
    gid = info.get("publisher_gid") if isinstance(info, dict) else None
    return bytes(gid["data"]) if gid else b""
