# `make help` lists the targets. Everything runs in .venv, made by pip.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The torch that pyproject.toml pins, read from there so that it stands in one place.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml)
BENCHMARKS := extract federation private_step
DEMO_DIR ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint lock format bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(INSTALLED) ## make .venv with everything in it

# torch first and by itself: pip then keeps the build that suits the machine when the rest asks for it.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[simulation,moirai,experiments,dev]"
	@touch $@

demo: setup ## five hospitals, one adapter, a report; MIMIC3_DIR=... does it on MIMIC-III
ifdef MIMIC3_DIR
	$(BIN)/python -m simulation prepare mimic3 --mimic-dir "$(MIMIC3_DIR)" --out $(DEMO_DIR)/cohort --overwrite
else
	$(BIN)/python -m simulation prepare synthetic --out $(DEMO_DIR)/cohort --overwrite
endif
	rm -rf $(DEMO_DIR)/run
	$(BIN)/python -m simulation run --data $(DEMO_DIR)/cohort --out $(DEMO_DIR)/run

# A file's tests share services that take long to start. Three workers keep two cores busy: some
# tests wait for Flower's timeouts. PYTEST_ADDOPTS=--cov tells the coverage, in half as much time again.
test: setup ## run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: setup ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

lint: setup ## ruff (style, format), mypy (strict), and whether the images' lock files fit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deploy.lock --check

lock: setup ## lock what the images install, with hashes, and list it (SBOM); asks the registry
	$(BIN)/python -m deploy.lock

format: setup ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## run the benchmarks; each prints ratios measured in one run
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* *.egg-info
