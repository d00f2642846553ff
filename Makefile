# `make demo` and `make test` work on a bare machine with Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint compose-demo compose-down clean

# A federation of four simulated clients on embedded scenes.
demo: $(VENV)/.installed
	$(BIN)/fedrsclip run

# Unit and integration tests; no GPU, no network.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/unit tests/integration -m "not slow and not gpu and not network and not docker"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docker

# A federation of containers, with TLS: needs docker and compose, no Python.
compose-demo:
	docker/demo.sh up $(OVERRIDES)

# Private prompts, results and keys stay in their volumes.
compose-down:
	docker/demo.sh down

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	    "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Installed once; again only when pyproject.toml changes.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[dev]'
	touch $@ $(VENV)/.installed
