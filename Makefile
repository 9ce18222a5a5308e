# Everything is installed into .venv and nowhere else. `make` alone says what there is.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# What the linters look at: the folders of the project, as far as they are there.
FOLDERS := $(wildcard .ci actors docker docs orchestrator schemas tests workflows)

MAKEFLAGS += --no-print-directory --output-sync=target
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install dev test docs check format lint types imports yaml shell image bench clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: install ## Install, then show the whole way of a message on this machine
	@$(BIN)/muleteer demo

install: .venv/.installed ## Install muleteer and what it needs to run into .venv

dev: .venv/.installed-dev ## Install what the tests and linters need as well

# In more processes than there are cores, see tests/conftest.py; one that has run out of tests takes some of another's.
# The tests start Python a thousand times: what it compiles is kept in .venv, also where the environment forbids it.
test: dev ## Run the tests (make test ARGS="-k name tests/unit")
	@.ci/services
	@echo "test: pytest $(ARGS)"
	@unset PYTHONDONTWRITEBYTECODE; PYTHONPYCACHEPREFIX=$(CURDIR)/.venv/pycache \
		$(BIN)/pytest --numprocesses=logical --maxprocesses=8 --dist=worksteal $(ARGS)

check: format lint types imports yaml shell image ## Run every linter (make -k check: all of them, whatever fails)

format: dev
	@echo "check: ruff format"
	@$(BIN)/ruff format --check --quiet $(FOLDERS)

lint: dev
	@echo "check: ruff check"
	@$(BIN)/ruff check --quiet $(FOLDERS)

types: dev
	@echo "check: mypy"
	@$(BIN)/mypy --no-error-summary

imports: dev
	@echo "check: import-linter"
	@said=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$said"; exit 1; }

yaml: dev
	@echo "check: yamllint"
	@$(BIN)/yamllint --strict .yamllint.yaml $(FOLDERS)

shell: dev
	@echo "check: shellcheck"
	@find $(FOLDERS) -type f -exec awk 'FNR == 1 && /^#!.*sh$$/ {print FILENAME} {nextfile}' {} + \
		| xargs -r $(BIN)/shellcheck --external-sources

image: dev
	@echo "check: hadolint"
	@$(BIN)/hadolint docker/Dockerfile

docs: install ## Write the generated pages of the reference
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m schemas.generate

bench: dev ## Measure how fast it is
	@$(BIN)/python -m tests.bench $(ARGS)

clean: ## Delete .venv, caches and what was built
	@echo "clean: .venv, caches, build"
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find $(FOLDERS) -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "muleteer needs Python 3.11 or newer, and there is no $(PYTHON) on PATH:" \
			"install it, or name another with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "muleteer needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1):" \
			"name a newer one with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module" \
			"(on Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "install: a virtual environment in .venv"
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml | .venv/bin/python
	@echo "install: muleteer and what it needs to run, into .venv"
	@$(PIP) install --editable .
	@touch $@

# After the other one, because two pips at once in one environment get in each other's way.
.venv/.installed-dev: pyproject.toml .venv/.installed
	@echo "install: what the tests and linters need, into .venv"
	@$(PIP) install --editable '.[dev]'
	@touch $@
