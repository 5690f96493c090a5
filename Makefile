# Run `make` for the list of targets. Nothing is installed outside .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Arguments of pip for torch alone. For a CPU build where the index has CUDA builds only:
# make setup TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_FLAGS ?=
# One more than two cores: many tests wait for a process, a clock or a disk.
PYTEST_FLAGS ?= -n 3 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := install --quiet --disable-pip-version-check
LOCKED := --require-hashes --no-deps

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed ## create .venv: the versions of constraints.txt, the files of requirements.lock

# Dependencies only: tutti itself runs from its root. Every file must have a digest of the locks, and nothing is
# installed that is not in them. What comes as source only is built by the pinned setuptools, and nothing is fetched for
# it. Torch comes by its pin: its build, and so its digest, differs by machine; what a CUDA build needs beside is pinned
# by that build itself.
$(VENV)/.installed: constraints.txt requirements.lock requirements-source.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "tutti needs Python 3.11, this is " + sys.version.split()[0] + "; try: make setup PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a few minutes the first time"
	@$(BIN)/python -m pip $(PIP_INSTALL) $(LOCKED) --only-binary :all: --requirement requirements.lock
	@$(BIN)/python -m pip $(PIP_INSTALL) $(LOCKED) --no-build-isolation --requirement requirements-source.lock
	@$(BIN)/python -m pip $(PIP_INSTALL) --constraint constraints.txt $(TORCH_FLAGS) torch
	@touch $@

.PHONY: lock
lock: setup ## write constraints.txt and the lock files anew; UPGRADE="NAME ..." or UPGRADE=all for newer versions
	$(BIN)/python .ci/lock.py $(if $(UPGRADE),--upgrade $(UPGRADE))

.PHONY: demo
demo: setup ## build the built-in sample, train on it, evaluate: the whole path in minutes, offline
	$(BIN)/python -m pipelines.demo

.PHONY: test
test: setup ## run all tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# mypy finds a package by its folders: links put the rooms where `tutti` has them.
ROOMS := augment datasets pipelines train

.PHONY: check
check: setup ## lint, formatting, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p .cache/types/tutti && ln -sfn $(addprefix $(CURDIR)/,tutti/__init__.py $(ROOMS)) .cache/types/tutti
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/project/test_imports.py

.PHONY: bench
bench: setup ## run every benchmark: our figure, the limit's, and the ratio
	@for file in benchmarks/*.py; do $(BIN)/python -m benchmarks.$$(basename "$$file" .py); done

.PHONY: clean
clean: ## remove caches of tools; environments, builds and runs stay
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
