#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Wheel and sdist into dist/, checked as an index checks them, and installed with all that they need in an empty
# environment, where the command must answer. Needs an index to install from.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist
python -m build --no-isolation --outdir dist . >/dev/null
python -m twine check --strict dist/*

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset PYTHONPATH
python -m venv "$scratch/empty"
"$scratch/empty/bin/pip" install --quiet dist/*.whl
cd "$scratch"
empty/bin/da3 doctor --no-ask-hub
empty/bin/da3 formats --json >/dev/null
