# SPDX-License-Identifier: Apache-2.0
"""`python -m da3_ros.demo`: see the node work on a synthetic camera; leaves a bag, a contact sheet and a GLB."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from da3_core.errors import InputError

SMALLEST_RUN = 8  # frames: two windows that share no view


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m da3_ros.demo", description=__doc__.partition(": ")[2])
    parser.add_argument("--model", default="untrained:da3-small", help="as the node's parameter (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="frames to process at least (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the results go (default: %(default)s)")
    parser.add_argument("--process-res", type=int, default=252, help="of the node, pixels (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.frames < SMALLEST_RUN:
        parser.error(f"--frames is {given.frames}; give at least {SMALLEST_RUN}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit status."""
    given = parse(arguments)
    if find_spec("rosbags") is None:
        print(
            "demo: the package rosbags, which writes the bag, is missing: pip install 'da3_ros[bag]'", file=sys.stderr
        )
        return 1
    from da3_ros.demo.children import INTERRUPTS, DemoError
    from da3_ros.demo.run import PRODUCTS, Options, run

    for ending in INTERRUPTS:  # also where a shell started this with SIGINT ignored
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        run(Options(given.out, given.model, given.frames, given.process_res))
    except KeyboardInterrupt:
        print("demo: interrupted; nothing was written", file=sys.stderr)
        return 130
    except (DemoError, InputError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        remedy = "free some space, or choose another folder with --out"
        print(f"demo: cannot write to {given.out} ({error.strerror}); {remedy}", file=sys.stderr)
        return 1
    print(f"done in {time.monotonic() - began:.1f} s:")
    for name in PRODUCTS:
        print(f"  {given.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
