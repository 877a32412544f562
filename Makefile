# Python 3.11 or newer and make are all that must be there. The environment is .venv; what is
# installed comes from requirements/*.txt, every file checked against its hash.
#
#   make demo         the sandbox, the broker and a working day; KEEP=1 leaves them running
#   make test         all tests; those that need a tool that is not here are skipped, aloud
#   make check        what CI runs: format, lint, types, layers, tests
#   make bench        the broker beside nginx, Envoy and what one would build in an afternoon
#   make format       write what `make check` wants to see
#   make lock         resolve the requirements anew; UPGRADE=1 takes newer releases
#   make clean        remove what these commands made
#
# PYTEST_ARGS is passed on:  make test PYTEST_ARGS='tests/unit/odata -x'

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
PYTEST_ARGS ?=

# A stamp is newer than what it was installed from, or make installs again.
RUN_STAMP := $(VENV)/.installed-runtime
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: help
help:
	@sed -n '/^#   make/s/^#   //p' Makefile

# The first interpreter that is new enough; where none is, say so instead of failing later
# on syntax.
$(BIN)/python:
	@for python in "$(PYTHON)" python3.11 python3.12 python3.13 python3.14 python3; do \
	  [ -n "$$python" ] || continue; \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$python has no venv module; on Debian and Ubuntu it is the package python3-venv" >&2; \
	    continue; }; \
	  echo "Creating $(VENV) with $$("$$python" --version)"; \
	  exec "$$python" -m venv $(VENV); \
	done; \
	echo 'Python 3.11 or newer with venv is needed, and no python3 on PATH is that.' >&2; \
	echo 'Install it, or name it: make PYTHON=/path/to/python3.11 …' >&2; \
	exit 1

$(RUN_STAMP): requirements/runtime.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo 'Installing what the broker runs on (requirements/runtime.txt)'
	@$(PIP) install --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): requirements/dev.txt $(RUN_STAMP)
	@echo 'Installing what its tests need (requirements/dev.txt)'
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: install
install: $(DEV_STAMP)

.PHONY: demo
demo: $(RUN_STAMP)
	@$(BIN)/python -m app.demo $(if $(KEEP),--keep)

.PHONY: test
test: $(DEV_STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

.PHONY: lint
lint: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The cheap ones first: who forgot to format hears it in a second.
.PHONY: check
check: lint
	@$(MAKE) --no-print-directory test

.PHONY: format
format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# nginx and wrk are Debian's; what is not here is left out, aloud.
.PHONY: bench
bench: $(DEV_STAMP)
	$(BIN)/python benchmarks/proxy.py $(BENCH_ARGS)

# One resolution for all: dev holds everything, the others are constrained by it. Universal,
# so that the same files serve a developer's Mac. No index and no path of this machine is
# written; pip takes the index from the environment that it runs in. With extras, or pip looks past
# a pin for the newest release of what another package asks for with one.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-strip-extras \
  --custom-compile-command 'make lock' \
  $(if $(UPGRADE),--upgrade)

.PHONY: lock
lock: | $(BIN)/python
	@$(PIP) install --require-hashes -r requirements/lock.txt
	$(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --all-extras -c requirements/dev.txt -o requirements/runtime.txt
	$(LOCK) --group build -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) --group ci -c requirements/dev.txt -o requirements/ci.txt
	$(LOCK) --group lock -o requirements/lock.txt

.PHONY: clean
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  .coverage .coverage.* htmlcov dist .sandbox .tools
	find app tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + \
	  2>/dev/null || true
