# `make demo` and `make test` work on a bare machine with Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# make test FLOWER=1.41 tests with that Flower; without it, with the one that is installed.
TESTED := $(VENV)$(if $(FLOWER),/flower-$(FLOWER))
# Integration tests mostly wait, so they come first, and the unit tests fill the gaps. With several
# tests at once, more threads of each would only wait for each other.
JOBS ?= 3
PYTEST = OMP_NUM_THREADS=1 $(TESTED)/bin/python -m pytest tests/integration tests/unit --numprocesses $(JOBS) \
    --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-flower lint docs bench compose-demo compose-down clean

# A federation of four simulated clients on embedded scenes, and a map of a scene by what they learned.
demo: RUN := demo-$(shell date +%Y%m%d-%H%M%S)
demo: OUT = build/demo/$(RUN)
demo: $(VENV)/.installed
	$(BIN)/fedrsclip run run.name=$(RUN)
	$(BIN)/fedrsclip data mosaic out=$(OUT)/scene.tif
	$(BIN)/fedrsclip map $(RUN) $(OUT)/scene.tif out=$(OUT)/map overlap=0
	$(BIN)/python -m fedrsclip.demo.mosaic $(OUT)/map/classes.tif $(OUT)/scene_truth.tif
	@echo "map: $(OUT)/map/map.html, picture: $(OUT)/map/quicklook.png"

# Unit and integration tests; no GPU, no network. JOBS=0: one after the other, in this process.
test: $(TESTED)/.installed-dev
	$(PYTEST) -m "not slow and not gpu and not network and not docker"

# Of these, what another Flower could break.
test-flower: $(TESTED)/.installed-dev
	$(PYTEST) -m "flower and not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docker docs/_ext
	$(BIN)/lint-imports --no-cache importlinter.toml

# The site, in build/docs/index.html; a warning is an error.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -q -E -W --keep-going -d build/doctrees docs build/docs

# The quick set: under 10 minutes on two cores; figures as JSON in build/bench.
bench: $(VENV)/.installed-dev
	mkdir -p build/bench
	$(BIN)/python -m benchmarks.step_time --classes 21 --repeats 2 --json build/bench/step.json
	$(BIN)/python -m benchmarks.round_time --images 96 --epochs 1 --plain-steps 1 --json build/bench/round.json
	$(BIN)/python -m benchmarks.features --images 96 --repeats 2 --json build/bench/features.json
	$(BIN)/python -m benchmarks.startup --repeats 1 --json build/bench/startup.json
	$(BIN)/python -m benchmarks.simulation --clients 20 --images 32 --json build/bench/simulation.json
	$(BIN)/python -m benchmarks.growth --clients 4 16 --classes 10 100 --images 1000 10000 --rounds 5 20 \
	    --json build/bench/growth.json

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
	$(PIP) install -e '.[geo]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[geo,docs]'
	touch $@ $(VENV)/.installed

# An environment with another Flower in front of the packages of $(VENV).
$(VENV)/flower-%/.installed-dev: $(VENV)/.installed-dev
	$(BIN)/python -m venv $(@D)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	    >$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth
	$(@D)/bin/python -m pip --disable-pip-version-check install 'flwr[simulation]==$*.*'
	$(@D)/bin/python -m pip --disable-pip-version-check install --no-deps -e .
	touch $@
