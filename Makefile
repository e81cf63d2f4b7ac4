# annul: what can be done in this checkout. `make help` lists it.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
BIN = $(VENV)/bin
PEERS ?= .venv-peers
export ANNUL_STATE_DIR ?= $(CURDIR)/.annul
# Else each process would compile all that it imports, also where an image sets this: a third of a daemon's start.
unexport PYTHONDONTWRITEBYTECODE
CV ?= examples/cv-en.pdf
TRIALS ?= 10000
RESTARTS ?= 600
TIMES ?= 100
ANNUL ?= $(abspath $(BIN))/annul
PREFIX ?= /usr/local/lib

.DEFAULT_GOAL := help
.PHONY: help run test check format bench bench-peers torture fuzz eval docs install-systemd uninstall-systemd clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed  ## Import a real CV (CV=path.pdf for another), no key and no server needed
	@$(BIN)/annul run --embedded import-pdf "$(CV)"

test: $(VENV)/installed-dev  ## Run all tests (TESTS=path for some)
	@$(BIN)/pytest --numprocesses 2 --dist worksteal $(TESTS)

check: $(VENV)/installed-dev  ## Format, lint, types, layers
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/installed-dev  ## Format the sources and fix what can be fixed
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: $(VENV)/installed-dev  ## Measure start and cancel beside their floors; writes bench/results/
	@$(BIN)/python -m bench

bench-peers: $(PEERS)/installed  ## Measure annul and other job queues in one run, in an environment of their own (ONLY=annul,rq for some)
	@$(PEERS)/bin/python -m bench.peers $(if $(ONLY),--only $(ONLY))

torture: $(VENV)/installed-dev  ## Race random cancels, crash the daemon at its every step, judged from outside (TRIALS=10000 RESTARTS=600)
	@PYTHONPATH=tests $(BIN)/python -m torture --trials $(TRIALS) --restarts $(RESTARTS)

fuzz: $(VENV)/installed-dev  ## Send the daemon's parts what makes no sense, other things each time (TIMES=100: so much more than the tests)
	@ANNUL_FUZZ=$(TIMES) $(BIN)/pytest --no-header -q tests/unit/test_fuzz.py

eval: $(VENV)/installed-dev  ## Score the CV import over a corpus (CORPUS=directory with manifest.tsv and truth/)
	@$(BIN)/python bench/eval_cv.py

docs: $(VENV)/installed-dev  ## Write what is made from the code into the documents
	@$(BIN)/python docs/render.py

install-systemd:  ## Install the systemd unit, as root (ANNUL=/path/to/annul of the installation, DESTDIR=, PREFIX=/usr/local/lib)
	@ANNUL="$(ANNUL)" PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/install.sh install

uninstall-systemd:  ## Remove it; stop the service before
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/install.sh uninstall

clean:  ## Remove everything made here
	rm -rf $(VENV) $(PEERS) .annul build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "annul needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing annul into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[pdf]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing annul and its test tools into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(PEERS)/installed: pyproject.toml bench/peers/requirements.txt
	@test -n "$(PYTHON)" || { echo "annul needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing annul and what it is measured beside into $(PEERS) …"
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --requirement bench/peers/requirements.txt
	@touch $@
