# The vocabulary of the project. `make` alone lists the targets.
#   PYTHON=python3.13 make test      another interpreter for .venv (after `make clean`)
#   make test ARGS='-k election -x'  arguments for the command behind a target

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

CODE := src tests $(wildcard benchmarks examples)

.DEFAULT_GOAL := help
.PHONY: help demo test test-system scenarios sim soak witnesses zoo zoo-full check fix bench bench-gate build clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "d-engine needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## a cluster on this machine, to look at and to break
	$(BIN)/d-engine demo $(ARGS)

test: $(STAMP) ## all tests except those of tests/system
	$(BIN)/pytest --ignore=tests/system $(ARGS)

test-system: $(STAMP) ## real processes, disks and faults
	$(BIN)/pytest tests/system $(ARGS)

scenarios: $(STAMP) ## the Raft core's scenarios with their transcripts
	$(BIN)/pytest tests/raft/test_scenarios.py $(ARGS)

HOURS ?= 1
RECORDED := --corpus tests/testing/corpus.txt --witnesses tests/testing/witnesses.txt
sim: $(STAMP) ## whole clusters under faults: every seed that ever failed, then 1,000 drawn from the commit
	$(BIN)/d-engine sim $(RECORDED) --profile mix --minutes 1 --at-least 1060 $(ARGS)

soak: $(STAMP) ## whole clusters under faults, for HOURS=n: every seed that ever failed, then this commit's
	$(BIN)/d-engine sim $(RECORDED) --profile mix --minutes $$(( 60 * $(HOURS) )) $(ARGS)

witnesses: $(STAMP) ## search anew the recorded runs that reach rare scenarios, where they are stale
	$(BIN)/d-engine sim --renew tests/testing/witnesses.txt $(ARGS)

zoo: $(STAMP) ## historic bugs, brought into copies of the sources: the simulator must catch each
	$(BIN)/python -m tests.zoo.run $(ARGS)

zoo-full: $(STAMP) ## search all of the zoo's bugs anew, and record what catches them
	$(BIN)/python -m tests.zoo.run --full $(ARGS)

check: $(STAMP) ## format, lint, types, layers, tidiness; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest --quiet tests/test_tidy.py

fix: $(STAMP) ## format the code and apply the linter's safe repairs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## measure this machine, and every peer that is installed on it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks $(ARGS)

bench-gate: $(STAMP) ## does this tree cost more than a baseline (ARGS='--baseline COMMIT')?
	$(BIN)/python -m benchmarks.gate $(ARGS)

build: $(STAMP) ## the wheel, into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove .venv, dist and caches
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
