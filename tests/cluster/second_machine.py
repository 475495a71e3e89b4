# SPDX-License-Identifier: Apache-2.0
"""A process that is another machine of a cluster: `second_machine.py ADDRESS CPUS`. `ray start` refuses loopback, so
this does what `ray.cluster_utils` does."""

import signal
import sys

from ray._private.node import Node
from ray._private.parameter import RayParams

Node(
    RayParams(
        gcs_address=sys.argv[1],
        redis_address=sys.argv[1],
        num_cpus=int(sys.argv[2]),
        num_gpus=0,
        object_store_memory=100 * 2**20,
        min_worker_port=0,
        max_worker_port=0,
        node_ip_address="127.0.0.1",
        node_manager_port=0,
        include_log_monitor=False,
    ),
    head=False,
    shutdown_at_exit=True,
    spawn_reaper=False,
)
signal.pause()
