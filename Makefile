# SPDX-License-Identifier: Apache-2.0
# make demo | make test are all a first visitor needs; each sets up what is missing.
# make demo IMAGES=folder takes your pictures.
SHELL := /bin/bash
RUN := . scripts/env.sh &&

.PHONY: setup demo test lint format bench package clean

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

clean:
	rm -rf dist .venv build install log demo .mypy_cache .pytest_cache .ruff_cache
