SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-families check fmt docs factworld relock clean

PYTHON ?= python3
BIN := .venv/bin
export PYTHON

# Two processes run the tests, each taking whole groups of them (tests/conftest.py).
WORKERS := -n 2 --dist loadgroup --no-loadscope-reorder

# Nothing here needs a model hub, and nothing reports usage.
export HF_HUB_OFFLINE := 1
export VLLM_NO_USAGE_STATS := 1
export VLLM_DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with everything needed (the other targets do it themselves)
	@scripts/bootstrap.sh

demo: setup ## correct a running server and take it back, over real HTTP
	@$(BIN)/vllm-edit demo

test: setup ## run the tests but the slow ones; ARGS="-k ledger" passes arguments to pytest
	@$(BIN)/python -m pytest $(WORKERS) -m "not slow and not families" $(ARGS)

test-slow: setup ## run the slow tests: whole servers killed, many engines, hundreds of edits
	@$(BIN)/python -m pytest $(WORKERS) -m slow $(ARGS)

test-families: setup ## train a small model of a few families and edit it with every weight method
	@$(BIN)/python -m pytest -n 0 -m families $(ARGS)

check: setup ## lint, formatting, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: setup ## format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup ## write the table of settings and build the site in site/; a dead link fails
	@$(BIN)/python -m scripts.settings_table
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

factworld: setup ## train the bundled model again (up to two hours on two cores)
	@$(BIN)/python -m vllm_edit.factworld.train

relock: setup ## renew requirements/cpu.lock within setup.py's bounds
	@$(BIN)/python requirements/relock.py

clean: ## remove .venv and everything that was built
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
