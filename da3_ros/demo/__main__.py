# SPDX-License-Identifier: Apache-2.0
"""`python -m da3_ros.demo`: see the node work on a camera, or on your images; leaves a bag, a sheet and a GLB."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from da3_core.errors import InputError

MODEL = "embedded"
SMALLEST_RUN = 8  # frames: two windows that share no view


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m da3_ros.demo", description=__doc__.partition(": ")[2])
    parser.add_argument("--model", default=MODEL, help="as the node's parameter (default: %(default)s)")
    parser.add_argument("--images", type=Path, help="a folder of images, instead of the synthetic room")
    parser.add_argument(
        "--frames", type=int, default=24, help="to process at least; of --images, at most (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the results go (default: %(default)s)")
    parser.add_argument("--process-res", type=int, default=0, help="of the node, pixels (default: the model's)")
    given = parser.parse_args(arguments)
    smallest = 1 if given.images else SMALLEST_RUN
    if given.frames < smallest:
        parser.error(f"--frames is {given.frames}; give at least {smallest}")
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
    from da3_ros.demo.run import Options, run

    for ending in INTERRUPTS:  # also where a shell started this with SIGINT ignored
        signal.signal(ending, signal.default_int_handler)
    began = time.monotonic()
    try:
        images = given.images and given.images.expanduser()
        products = run(Options(given.out, given.model, given.frames, given.process_res, images))
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
    for name in products:
        print(f"  {given.out / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
