# Understudy. On a fresh clone `make demo` needs Python 3.11 or newer and make, nothing else.
#
#   make demo       everything in an embedded cloud: no account, no key, no money
#   make test       all tests                      make check   lint, types, import contracts, house rules
#   make help       the rest

VENV   ?= .venv
JOBS   ?= 2
ARGS   ?=
# the versions that are tested come first; `make demo PYTHON=/path/to/python` takes that one
PYTHONS = $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo install dev test check bench bench-long snap picture test-live lock wheel clean distclean
.DELETE_ON_ERROR:

help:
	@echo 'make demo        try everything in an embedded cloud (ARGS=--headless for scripts)'
	@echo 'make install     the command understudy in $(VENV)'
	@echo 'make test        install what the tests need and run all of them (ARGS= goes to pytest)'
	@echo 'make check       ruff, mypy --strict, import contracts, house rules'
	@echo 'make bench       the figures as a table and as build/bench.json, at most 15 minutes'
	@echo 'make bench-long  the same with the full number of trials'
	@echo 'make snap        every screen and state as pictures in build/snap'
	@echo 'make picture     the picture of the README, drawn by the console on a running demo'
	@echo 'make test-live   opt-in: rents one real machine with your key, at most $$2'
	@echo 'make wheel       a wheel in dist/'
	@echo 'make lock        make constraints.txt anew from pyproject.toml'
	@echo 'make clean       remove what was built; make distclean removes $(VENV) too'

demo: $(VENV)/.installed
	@$(BIN)/understudy demo $(ARGS)

install: $(VENV)/.installed
	@echo 'Installed: $(BIN)/understudy'

dev: $(VENV)/.installed-dev

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/house

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.run $(ARGS)

bench-long: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.run --long $(ARGS)

snap: $(VENV)/.installed-dev
	$(BIN)/python -m tests.screens.snap build/snap

picture: $(VENV)/.installed-dev
	$(BIN)/python -m tests.journeys.picture .github/console.svg

test-live: $(VENV)/.installed-dev
	@test "$$UNDERSTUDY_LIVE" = 1 || { \
	  echo 'This rents a real machine with your own key (at most $$2). If that is meant: UNDERSTUDY_LIVE=1 VAST_API_KEY=... make test-live' >&2; \
	  exit 1; }
	$(BIN)/python -m pytest -s -p no:cacheprovider tests/live $(ARGS)

wheel: $(VENV)/.installed-dev
	rm -rf build/lib build/bdist.*
	$(BIN)/python -m build --wheel --outdir dist .

# The lock is what a fresh environment resolves to now; it is committed only after the tests passed with it. It is made
# with the oldest Python that we support: that one needs the most packages, and a newer one ignores what it does not need.
lock: PYTHONS = $(or $(PYTHON),python3.11)
lock:
	rm -rf build/lock
	@$(call make_venv,build/lock)
	build/lock/bin/python -m pip --disable-pip-version-check install -q -e '.[dev]'
	@{ sed -n '/^#/p' constraints.txt; build/lock/bin/python -m pip --disable-pip-version-check freeze --all --exclude pip --exclude wheel --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find core tui tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Each stamp is older than what it was made from only when there is something to do, so a second `make demo` is instant.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'Installing into $(VENV) ...'
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo 'Installing into $(VENV), with what the tests need ...'
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV)/.made:
	@$(call make_venv,$(VENV))
	@touch $@

# $(1): the folder of the virtual environment. A python counts when it really starts, is new enough and can make one.
define make_venv
set -e; for python in $(PYTHONS); do \
  if "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    mkdir -p '$(1)'; "$$python" -m venv '$(1)'; exit 0; fi; done; \
echo 'Understudy needs Python 3.11 or newer with its venv module (on Debian and Ubuntu: apt install python3-venv).' >&2; \
echo 'Looked for: $(PYTHONS). Another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3' >&2; exit 1
endef
