# Each target does all the set-up it needs, in .venv of this clone. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-slow test-gpu soak bench bench-gpu docs lint format clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or later is needed, this is {sys.version}"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

demo: $(READY)  ## a whole sweep on generated pictures: 8 trials, table and figure
	$(BIN)/scp-ray sweep quickstart --out results
	$(BIN)/scp-ray report results/quickstart

test: $(READY)  ## all tests but those marked slow or gpu: files side by side, then one by one what starts a Ray
	$(BIN)/python -m pytest -m "not slow and not gpu and not ray" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m "not slow and not gpu and ray"

test-slow: $(READY)  ## the tests that take minutes each
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(READY)  ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

soak: $(READY)  ## half an hour of killed trials, scorers and nodes; then the ledger is compared with what was asked
	$(BIN)/python -m benchmarks.soak

docs: $(READY)  ## the site of docs/ in site/; `.venv/bin/mkdocs serve` shows it on this machine alone
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)  ## what speed is judged by, as far as a CPU can measure it in 15 minutes: docs/performance.md
	$(BIN)/python -m benchmarks.room

bench-gpu: $(READY)  ## the rows of docs/performance.md that need a GPU
	$(BIN)/python -m benchmarks.room --gpu

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## put the code in its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and caches; results stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
