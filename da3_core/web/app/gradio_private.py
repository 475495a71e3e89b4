# SPDX-License-Identifier: Apache-2.0
"""What the app needs of Gradio and Gradio does not promise. Checked with gradio 6.31.0.

`launch()` does both, for a server that Gradio runs itself; we run our own, which guards it and ends it in time.
"""

import secrets
from collections.abc import Callable
from typing import Any


def open_tunnel(host: str, port: int) -> str:
    """A public https address that leads to a local one by way of Gradio's servers, or an exception of any kind."""
    from gradio import networking

    return networking.setup_tunnel(
        local_host=host,
        local_port=port,
        share_token=secrets.token_urlsafe(32),
        share_server_address=None,
        share_server_tls_certificate=None,
    )


def end_of_streams(mounted: Any) -> Callable[[], None]:
    """What ends the open connections of a page; `mounted` is the route that `mount_gradio_app` has made of it."""
    end: Callable[[], None] = mounted.app.stop_event.set
    return end
