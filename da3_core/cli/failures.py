# SPDX-License-Identifier: Apache-2.0
"""How commands end when something goes wrong: one sentence on stderr and an exit code."""

import errno
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from da3_core.cli.spelling import option_of
from da3_core.errors import InputError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def report(error: Exception) -> None:
    """Print the sentence of an error, with options as they are written here."""
    sentence = error.spelled(option_of) if isinstance(error, InputError) else str(error)
    typer.echo(f"error: {sentence}", err=True)


@contextmanager
def failures_reported(debug: bool) -> Iterator[None]:
    """Turn exceptions into exit codes: 2 for input that was refused, 130 for Ctrl-C, 1 for everything else.

    Args:
        debug: also print the traceback.
    """
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if isinstance(error, InputError):
            report(error)
            raise typer.Exit(BAD_INPUT) from None
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" where {error.filename} is" if error.filename else ""
            typer.echo(f"error: the disk is full{where}: make room or choose another place", err=True)
            raise typer.Exit(FAILED) from None
        first_line = str(error).partition("\n")[0]
        typer.echo(f"error: {type(error).__name__}: {first_line} (--debug shows where)", err=True)
        raise typer.Exit(FAILED) from None


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Within the block, SIGTERM ends the process as Ctrl-C does; which only the main thread can see to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
