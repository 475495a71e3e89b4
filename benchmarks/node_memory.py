# SPDX-License-Identifier: Apache-2.0
"""Whether the node gives its memory back: configure and cleanup in turn, and bad images, in one process.

`python benchmarks/node_memory.py [--out FILE.json]` needs ROS 2. A small model with random weights stands for any.
"""

from pathlib import Path

import rclpy
import report
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from da3_ros.engine import load_model
from da3_ros.node import Da3Node

CYCLES = 30
PAGE_BYTES = 4096


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def main() -> None:
    arguments = report.arguments(__doc__, repeats=CYCLES)
    rclpy.init()
    node = Da3Node(load_model)
    given = {"model": "untrained:da3-small", "device": "cpu", "autostart": False}
    node.set_parameters([Parameter(name, value=value) for name, value in given.items()])
    unconfigured, configured, cleaned = resident_mb(), [], []
    for _ in range(arguments.repeats):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        configured.append(resident_mb())
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        cleaned.append(resident_mb())
    print("| state | first, MB | last, MB |\n|---|---|---|")
    print(f"| unconfigured | {unconfigured:.0f} | |")
    print(f"| configured | {configured[0]:.0f} | {configured[-1]:.0f} |")
    print(f"| cleaned up | {cleaned[0]:.0f} | {cleaned[-1]:.0f} |")
    node.destroy_node()
    rclpy.shutdown()
    report.publish("node_memory", arguments.out, unconfigured=unconfigured, configured=configured, cleaned=cleaned)


if __name__ == "__main__":
    main()
