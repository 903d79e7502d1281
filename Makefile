# The project's one command surface. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
TEST_SECONDS := 1080  # of the 20 minutes that `make test` may take

.PHONY: help
help:
	@echo 'make demo    install into $(VENV) and watch three nodes find each other and talk'
	@echo 'make test    everything that must pass before a change is merged (under 20 minutes)'
	@echo 'make check   lint, types and import contracts'
	@echo 'make bench   measure; writes perf/results/*.json'
	@echo 'make soak    simulate SEEDS (1000) seeds of each protocol on all cores; report in build/soak'
	@echo 'make replay  prove that seeds decide everything (SUBJECTS, FIRST, SEEDS, REPLAYS)'
	@echo 'make clean   remove $(VENV), caches and builds'

# -- what is installed; again only when the project's metadata changes ------------------------------------------------

# Debian splits ensurepip into python3-venv. Where that is missing, the machine's own pip fills an environment made without.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "zmesh needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): try make PYTHON=python3.11" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv $(VENV); \
	else \
	  $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; \
	fi

$(VENV)/.installed: pyproject.toml setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[uvloop]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[dev,uvloop]'
	@touch $@ $(VENV)/.installed

# The tests make network namespaces with `ip`.
.PHONY: system-packages
system-packages:
	@export PATH="$$PATH:/usr/sbin:/sbin"; \
	if ! command -v ip >/dev/null; then \
	  if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iproute2; \
	  else \
	    echo "note: without 'ip' (Debian: iproute2) the tests between network namespaces are skipped" >&2; \
	  fi; \
	fi

# -- what people run --------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py

.PHONY: check
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The cores run a second time with asserts stripped: their invariants must not hang on `assert`.
.PHONY: test
test: system-packages $(VENV)/.installed-dev check
	$(BIN)/python -O -m pytest -q -W 'ignore:assertions not in test modules' tests/core tests/testing tests/wire
	timeout --foreground --signal=INT --kill-after=30 $(TEST_SECONDS) $(PYTEST)

.PHONY: bench
bench: $(VENV)/.installed-dev
	mkdir -p perf/results
	$(BIN)/python perf/throughput.py --json perf/results/throughput.json
	$(BIN)/python perf/throughput.py --fan-out 8 --json perf/results/fan-out-8.json
	$(BIN)/python perf/latency.py --json perf/results/latency.json
	$(BIN)/python perf/simulator.py --json perf/results/simulator.json

SEEDS ?= 1000
FIRST ?= 0
SUBJECTS ?=
.PHONY: soak
soak: $(VENV)/.installed-dev
	$(BIN)/python -m zmesh.testing soak $(SUBJECTS) --first $(FIRST) --seeds $(SEEDS) --report build/soak

# Before a release: 100 seeds of each protocol, each replayed 100 times in processes of their own; in pieces, for example
# `make replay SUBJECTS=membership FIRST=20 SEEDS=20 REPLAYS=100`.
REPLAYS ?= 100
replay: SEEDS = 100
.PHONY: replay
replay: $(VENV)/.installed-dev
	$(BIN)/python -m zmesh.testing replay $(SUBJECTS) --first $(FIRST) --seeds $(SEEDS) --replays $(REPLAYS)

.PHONY: clean
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
