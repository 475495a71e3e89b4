# SPDX-License-Identifier: Apache-2.0
"""Every reader of files and messages, given what is almost right: it reads, or says a sentence, in time and in bounds.

A bounded count with a fixed seed in the suite. Longer, one reader of many:

    DA3_FUZZ_RUNS=100000 DA3_FUZZ_SEED=7 python -m pytest tests/fuzz -k colmap

The input that a reader fails at is kept, and its path told.
"""

import os
import resource
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path

import pytest
from mutants import mutants
from targets import TARGETS, Target

RUNS = int(os.environ.get("DA3_FUZZ_RUNS", "0"))  # 0: each target's own few
SEED = int(os.environ.get("DA3_FUZZ_SEED", "1"))
MOST_SECONDS, MOST_BYTES = 10.0, 1 << 30  # of one input, on a loaded machine


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(0 if RUNS else 120)
def test_what_is_almost_right_is_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    target: Target = TARGETS[name]()
    refusals = (*target.refusals,)
    refused, peak = 0, peak_bytes()
    for number, data in enumerate(islice(mutants(target.originals, SEED), RUNS or target.runs)):
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.read(data, tmp_path)
        except Exception as error:
            refused += 1
            if not (isinstance(error, refusals) and is_sentence(str(error))):
                raise AssertionError(kept(data, name, f"{number}: {type(error).__name__}: {error}")) from error
        assert time.process_time() - start < MOST_SECONDS, kept(data, name, f"{number}: takes too long")
        assert peak_bytes() - peak < MOST_BYTES, kept(data, name, f"{number}: takes too much memory")
    assert refused or not refusals, "the changes changed nothing"
    for original in target.originals:  # what is right is still read
        target.read(original, tmp_path)


def is_sentence(text: str) -> bool:
    return 10 < len(text) < 3000 and "Traceback" not in text


def kept(data: bytes, name: str, why: str) -> str:
    path = Path(tempfile.gettempdir()) / f"da3-fuzz-{name}.bin"
    path.write_bytes(data)
    return f"{name}, input {why}; it is kept in {path}"
