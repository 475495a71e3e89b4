# SPDX-License-Identifier: Apache-2.0
"""A DDS domain for the processes of one run, apart from every other run on this machine."""

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from da3_core.errors import InputError
from da3_core.storage.files import package_file as package_file

DOMAINS = 102  # as many as every operating system has ports for
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")  # from Kilted on, before
BEFORE_KILTED = ("humble", "iron", "jazzy")


@contextmanager
def free_domain() -> Iterator[int]:
    """A domain id that no other holder of this lock has; `ROS_DOMAIN_ID`, where set, wins."""
    if chosen := os.environ.get("ROS_DOMAIN_ID"):
        yield int(chosen)
        return
    for offset in range(DOMAINS):
        domain_id = (os.getpid() + offset) % DOMAINS
        with open(Path(tempfile.gettempdir()) / f"da3_ros_domain_{domain_id}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain_id
            return
    raise InputError(f"all {DOMAINS} DDS domains are held by other runs; set ROS_DOMAIN_ID to share one")


def graph_environment(domain_id: int) -> dict[str, str]:
    """What a process of this domain needs besides the caller's environment."""
    distribution = os.environ.get("ROS_DISTRO") or os.environ.get("DA3_ROS_WHEELS")
    profile = package_file("config/fastdds_shm.xml")
    given = profile is None or any(name in os.environ for name in PROFILE_VARIABLES)
    return {
        **({} if given else {PROFILE_VARIABLES[distribution in BEFORE_KILTED]: str(profile)}),
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
        "PYTHONUNBUFFERED": "1",
    }
