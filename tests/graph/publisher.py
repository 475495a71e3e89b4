# SPDX-License-Identifier: Apache-2.0
"""A process that publishes what it is handed: serialised messages come in on stdin, go out over DDS as they are.

Each command is one JSON line and `size` bytes of CDR; one line on stdout answers it once the message has left. Knowing
nothing of the messages, it can publish wrong ones, and killing it is what killing a camera driver is.
"""

import json
import sys
import time
from importlib import import_module

import rclpy
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile

MATCH_TIMEOUT_S = 30.0


def open_publisher(node: Node, topic: str, type_name: str, latched: bool) -> Publisher:
    """A reliable publisher, which serves best-effort subscriptions too."""
    package, _, name = type_name.split("/")
    message_type = getattr(import_module(f"{package}.msg"), name)
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return node.create_publisher(message_type, topic, QoSProfile(depth=4000, durability=durability))


def wait_for_readers(node: Node, publisher: Publisher, readers: int) -> None:
    """Until at least that many subscriptions are matched."""
    deadline = time.monotonic() + MATCH_TIMEOUT_S
    while publisher.get_subscription_count() < readers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"too few subscribed to {publisher.topic_name} within {MATCH_TIMEOUT_S:.0f} s")
        rclpy.spin_once(node, timeout_sec=0.02)


def main() -> None:
    rclpy.init()
    node = Node("publisher")
    publishers: dict[str, Publisher] = {}
    while line := sys.stdin.buffer.readline():
        command = json.loads(line)
        cdr = sys.stdin.buffer.read(command["size"])
        topic = command["topic"]
        if topic not in publishers:
            publishers[topic] = open_publisher(node, topic, command["type"], command["latched"])
        wait_for_readers(node, publishers[topic], command["readers"])
        publishers[topic].publish(cdr)
        print("sent", flush=True)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
