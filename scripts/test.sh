#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, and how much of the packages they run at least. With arguments for pytest: those tests, and no floor.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
pytest=(-m pytest -n 3 --dist loadfile) # two cores: tests of nodes and browsers wait half of their time
if [ $# -gt 0 ]; then exec python "${pytest[@]}" "$@"; fi

rm -rf log/coverage && mkdir -p log/coverage
python -m coverage run "${pytest[@]}"
python -m coverage combine --quiet
missed=0
for line in "da3_core 90" "da3_ros 85"; do
  read -r package floor <<<"$line"
  covered=$(python -m coverage report --include="$package/*" --format=total)
  printf 'coverage of %s: %s %% of the statements, the floor is %s %%\n' "$package" "$covered" "$floor"
  if [ "$covered" -lt "$floor" ]; then
    missed=1
    python -m coverage report --include="$package/*" --sort=miss --skip-covered | tail -n 15
  fi
done
if [ $missed = 1 ]; then echo "make test: a package is below its floor; test what the lists above name" >&2; fi
exit $missed
