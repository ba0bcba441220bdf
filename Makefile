# Two commands do all the set-up on a fresh Debian or Ubuntu with Python 3.11 or later: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := $(shell find kpm kpm_planner kpm_applier -name '*.py' -o -name '*.yaml')

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint types arch check test-kernel bench pages install clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '.[dev]'
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@rm -rf build *.egg-info
	@touch $@

install: $(VENV)/.installed ## make the virtual environment with kpm in it

demo: $(VENV)/.installed ## watch a simulated server being tuned
	$(BIN)/kpm simulate

test: $(VENV)/.installed ## the default tests: properties, files, command line
	$(BIN)/python -m pytest -n 2

soak: $(VENV)/.installed ## the properties with many more examples
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest -n 2 tests/planner/property tests/applier/property

lint: $(VENV)/.made ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.made ## types, strict
	$(BIN)/mypy kpm_planner kpm_applier kpm

arch: $(VENV)/.made ## the import contract
	$(BIN)/lint-imports

check: lint types arch ## lint, types and arch

test-kernel: $(VENV)/.installed ## real kernel drivers in an emulator; installs it, caches in ~/.cache
	$(BIN)/python tests/kernel/lab.py --prepare
	$(BIN)/python -m pytest -m kernel tests/kernel --durations=20

bench: $(VENV)/.installed ## costs as ratios to a floor; writes bench-results/
	$(BIN)/python tests/bench/bench.py

pages: $(VENV)/.installed ## the pictures and generated pages in docs/, out of the program itself
	$(BIN)/python docs/make_pages.py

clean: ## remove what the targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results
