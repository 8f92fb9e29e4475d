# `make help` lists the targets. Everything runs in .venv, made by pip.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The torch pinned in pyproject.toml.
TORCH := $(shell sed -n 's/^ *"\(torch==[^"]*\)",/\1/p' pyproject.toml)
BENCHMARKS := extract federation private_step
DEMO_DIR ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint lock format docs bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(INSTALLED) ## create .venv with all dependencies

# torch first: pip then keeps the build for this machine when other packages require it.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[simulation,ingest,moirai,experiments,dev]"
	@touch $@

demo: setup ## run five synthetic hospitals to a report; MIMIC3_DIR=... uses MIMIC-III
ifdef MIMIC3_DIR
	$(BIN)/python -m simulation prepare mimic3 --mimic-dir "$(MIMIC3_DIR)" --out $(DEMO_DIR)/cohort --overwrite
else
	$(BIN)/python -m simulation prepare synthetic --out $(DEMO_DIR)/cohort --overwrite
endif
	rm -rf $(DEMO_DIR)/run
	$(BIN)/python -m simulation run --data $(DEMO_DIR)/cohort --out $(DEMO_DIR)/run

# The tests of a file share services that start slowly. Three workers keep two cores busy: some tests wait
# for Flower's timeouts. PYTEST_ADDOPTS=--cov measures the coverage and takes half as long again.
test: setup ## run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: setup ## run all tests but the slow ones
	$(BIN)/python -m pytest -m "not slow"

lint: setup ## check with ruff and mypy, and the images' lock files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deploy.lock --check

lock: setup ## lock the images' packages with hashes and write the SBOM; needs the registry
	$(BIN)/python -m deploy.lock

format: setup ## format and fix with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## build the documents as a site, build/site, that opens offline
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/site/index.html"

bench: setup ## run the benchmarks; each prints ratios measured in one run
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* *.egg-info
