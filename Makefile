# SPDX-License-Identifier: Apache-2.0
# make demo | make test are all a first visitor needs; each sets up what is missing.
# make demo IMAGES=folder takes your pictures.
SHELL := /bin/bash
RUN := . scripts/env.sh &&

.PHONY: setup demo test lint format bench package docs clean

setup:
	@scripts/setup.sh

demo: setup
	@$(RUN) python -m da3_ros.demo --out demo $(if $(IMAGES),--images "$(IMAGES)") $(DEMO_ARGS)

test: setup
	@$(RUN) scripts/test.sh $(TEST_ARGS)

lint: setup
	@$(RUN) ruff check . && ruff format --check . && mypy

format: setup
	@$(RUN) ruff check --fix . && ruff format .

bench: setup
	@$(RUN) python benchmarks/run.py

package: setup
	@$(RUN) scripts/package.sh

docs: setup
	@$(RUN) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet && echo "open site/index.html, or for the search: python -m http.server --directory site"

clean:
	rm -rf dist site .venv build install log demo .mypy_cache .pytest_cache .ruff_cache
