# SPDX-License-Identifier: Apache-2.0
"""An answer with what a file was when it was checked, whatever its name leads to by now."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from da3_core.storage.opened_folder import path_of


class OpenedFileResponse(FileResponse):
    """Sends an open file and closes it."""

    def __init__(self, file: BinaryIO, **options: Any) -> None:
        self._file = file
        super().__init__(path_of(file.fileno()), stat_result=os.fstat(file.fileno()), **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)
