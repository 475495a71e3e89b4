# SPDX-License-Identifier: Apache-2.0
"""Ray for the length of a run: a cluster of this machine alone, or one that is there already.

A cluster of our own listens on the loopback interface, asks for a token that only this user can read, sends no usage
statistics, and keeps its files in a temporary folder that goes with it;
that of a process that was killed goes when the next one starts.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from da3_core.cluster.options import ClusterOptions
from da3_core.cluster.ray_private import keep_off_stdout
from da3_core.errors import InputError, OptionError
from da3_core.storage.opened_folder import opened
from da3_core.storage.staging import own_folder

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 512 * 2**20  # what does not fit goes to the temporary folder

logger = logging.getLogger(__name__)


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Any]:
    """The package ray, connected; a cluster of our own once per process, which has not imported ray before.

    Raises:
        InputError: it is not installed, does not start, or there is no such cluster.
    """
    with _environment(RAY_USAGE_STATS_ENABLED="0"), ExitStack() as stack:
        if options.ray_address is None:
            ray = stack.enter_context(_own_cluster(options))
        else:
            ray = _joined(options.ray_address)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _own_cluster(options: ClusterOptions) -> Iterator[Any]:
    assert options.workers is not None
    place = Path(gettempdir()).resolve()
    with opened(place) as temporary, own_folder(temporary, "da3-ray-", 0o700) as held:
        folder = place / held.name  # as other processes name it
        token = folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        # Ray heeds these when it is imported. Without the last, it takes an address that other machines reach even
        # where it is given loopback.
        variables = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        with _environment(**variables):
            ray = _imported()
            try:
                ray.init(
                    address="local",
                    num_cpus=options.workers * options.cpus_per_worker,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=options.ray_dashboard,
                    dashboard_host=LOOPBACK,
                    _node_ip_address=LOOPBACK,
                    _temp_dir=str(folder),
                    log_to_driver=False,
                    configure_logging=False,
                )
            except Exception as error:  # whatever a full disk or a missing limit makes it raise
                raise InputError(f"ray does not start ({_first_line(error)}): leave the workers out") from error
            if options.ray_dashboard:
                logger.info("ray's dashboard is at http://%s", ray.get_dashboard_url())
            yield ray


def _joined(address: str) -> Any:
    ray = _imported()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:  # whatever no network, another version or another token make it raise
        raise OptionError(
            "{ray_address} {address} cannot be joined ({reason}): run the command on a machine of the cluster, which "
            "`ray status` shows",
            address=address,
            reason=_first_line(error),
        ) from error
    return ray


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OptionError("{workers} needs the package ray: pip install 'da3_ros[ray]'") from error
    keep_off_stdout()
    return ray


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Within the block, the processes that this one starts have these too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
