# SPDX-License-Identifier: Apache-2.0
"""What the cluster needs of Ray and Ray does not promise. Checked with ray 2.60.0."""


def keep_off_stdout() -> None:
    """Have Ray print nothing.

    It writes the death of a worker to the standard output of this process, among the results, which `log_to_driver`
    does not change. We tell of it ourselves.
    """
    from ray._private import worker

    worker._worker_logs_enabled = False
