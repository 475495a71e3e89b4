# SPDX-License-Identifier: Apache-2.0
"""What the app needs of Gradio and Gradio does not promise. Checked with gradio 6.31.0.

`launch()` does all of it, for a server that Gradio runs itself; we run our own, which guards it and ends it in time.
"""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

from da3_core.errors import InputError


def checked_blocks(check_file: Callable[[str], object], **options: Any) -> Any:
    """`gr.Blocks(**options)` whose events take no file before `check_file` has seen the path that the caller gave.

    What `check_file` raises, an InputError, is told to the caller. Gradio itself looks only at paths of an app that it
    has launched; it copies files and fetches addresses before a handler sees them.
    """
    import gradio as gr

    class CheckedBlocks(gr.Blocks):
        async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> Any:
            try:
                for path in _paths(inputs):
                    check_file(path)
            except InputError as error:
                raise gr.Error(str(error), print_exception=False) from None
            try:
                return await super().preprocess_data(block_fn, inputs, *more, **named)
            except gr.Error as error:
                error.print_exception = False  # what a stranger sends must not fill the log
                raise
            except Exception as error:
                message = f"no such request comes from this page ({type(error).__name__}): reload it"
                raise gr.Error(message, print_exception=False) from None

    return CheckedBlocks(**options)


def _paths(values: Any) -> Iterator[str]:
    """Of everything that may be a file to Gradio."""
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
            if value.get("path") is not None:
                yield str(value["path"])
        elif isinstance(value, list | tuple):
            left += value


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
