# Everything a newcomer types. `make demo` and `make test` set up by themselves what they need.
SHELL := /bin/bash
BIN := .venv/bin
# Named by what it was installed from, and where: another lock or a moved repository is another stamp.
STAMP := .venv/.lock-$(shell { cat requirements.lock pyproject.toml; pwd -P; } | sha256sum | cut -c1-16)
# How many random examples a long search tries.
EXAMPLES ?= 2000
# The prompt reaches the shell as a variable, so that quotes, $ and ; in it are only text.
override PROMPT := $(value PROMPT)
export PROMPT

.PHONY: help setup demo test test-system test-long lint bench revision lock clean

help:  ## What can be typed
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Install everything, once
	@$(BIN)/tristrata setup

# A virtual environment is whole once it has `activate`, which venv writes last; .venv/.installing outlives only an
# install that was interrupted. Whatever is not whole is made anew: the downloads come from the caches of pip and uv.
$(STAMP):
	@again() { echo "$$1"; echo "Then run again: make setup"; exit 1; }; \
	test "$$(uname -sm)" = "Linux x86_64" \
		|| { echo "This is $$(uname -sm); Tristrata's embedded network runs on Linux x86_64 only."; exit 1; }; \
	if ! { test -e $(BIN)/activate && test ! -e .venv/.installing && grep -qF "$$(pwd -P)/.venv" .venv/pyvenv.cfg \
		&& $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))'; } 2>/dev/null; then \
		for python in python3.13 python3.12 python3.11 python3 none; do \
			$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
		done; \
		test $$python != none || again "No Python >= 3.11 found. Install it (Debian: apt-get install python3 python3-venv)."; \
		echo "Making .venv with $$($$python --version) ..."; \
		$$python -m venv --clear .venv || again "python -m venv failed (Debian: apt-get install python3-venv)."; \
	fi; \
	uv=$$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock); \
	if test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" != "$$uv"; then \
		echo "Installing uv $$uv ..."; \
		sed -n '/^uv==/,/^ *#/p' requirements.lock > .venv/uv.txt; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt \
			|| again "pip could not install uv $$uv: check the connection to the package index and the room on the disk."; \
	fi; \
	echo "Installing what requirements.lock names (minutes, the first time) ..."; \
	quiet=; test -t 2 || quiet=-q; \
	touch .venv/.installing; \
	$(BIN)/uv pip sync $$quiet --python $(BIN)/python --require-hashes requirements.lock \
		&& $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	code=$$?; test $$code -ge 128 || rm -f .venv/.installing; \
	test $$code -eq 0 \
		|| again "uv could not install what requirements.lock names: check the connection and the room on the disk."; \
	rm -f .venv/.lock-*; touch $@

demo: setup  ## See it work: make demo PROMPT="…" ARGS="--json out.json --keep"
	@$(BIN)/tristrata demo $(ARGS) $${PROMPT:+-- "$$PROMPT"}

test: setup  ## All tests that need nothing but this repository
	@$(BIN)/python -m pytest -q -m "not system" -n auto --dist loadfile tests/unit tests/contracts
	@$(BIN)/python -m pytest -q -m "not system" tests/integration tests/e2e tests/chaos

test-system: setup  ## Tests that need Debian packages: tmux, curl
	@$(BIN)/python -m pytest -q -m system; code=$$?; \
	test $$code -ne 5 || echo "No test is marked 'system': nothing was tested."; exit $$code

test-long: setup  ## The random searches again, longer and other ones each time: make test-long EXAMPLES=2000
	@HYPOTHESIS_PROFILE=long EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q -m hypothesis -n auto --dist loadfile --timeout 3600 tests/unit/protocol tests/contracts

lint: setup  ## Style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup  ## Measure, and compare with what was measured before
	@$(BIN)/python -m benchmarks

revision:  ## Write a migration for the tables that changed: make revision M="what changes"
	@$(BIN)/python -m tristrata.storage.migrations.history "$(M)"

lock:  ## Resolve requirements.lock anew
	@test -x $(BIN)/uv || { echo "There is no $(BIN)/uv yet. Run first: make setup"; exit 1; }
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes -q --custom-compile-command "make lock" -o requirements.lock

clean:  ## Remove what was installed and built here
	@rm -rf .venv node_modules .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
