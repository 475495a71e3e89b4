# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every benchmark in a process of its own, tables on the screen, numbers in benchmarks/results.json."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# `reliability` takes half an hour and writes a document of its own.
BENCHMARKS = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in ("run", "report", "reliability"))


def main() -> None:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in BENCHMARKS:
            out = Path(folder, f"{name}.json")
            print(f"\n## {name}\n", flush=True)
            subprocess.run([sys.executable, HERE / f"{name}.py", "--out", out], check=True, cwd=HERE.parent)
            results.append(json.loads(out.read_text()))
    target = HERE / "results.json"
    target.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{target}")


if __name__ == "__main__":
    main()
