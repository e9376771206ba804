# Everything installs into .venv; nothing but Python >= 3.11, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-slow test-system lint bench bench-full up down clean

$(STAMP): pyproject.toml
	@echo "setting up .venv: about 7 GB, some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

demo: $(STAMP)  ## real input, both kinds: results in demo/
	$(BIN)/segflow sample aerial demo/aerial
	$(BIN)/segflow run demo/aerial/aerial.yaml
	$(BIN)/segflow sample volume demo/volume
	$(BIN)/segflow run demo/volume/volume.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, types, arrows between packages, and all tests that are not marked slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not system" -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-system: $(STAMP)  ## against programs of Debian's: QGIS, Orthanc, DCMTK, PostGIS, Chromium; installs them with apt
	tests/system/install.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "system and not slow"

bench: $(STAMP)  ## runs, peers and start-up in turns, one table: about 10 minutes on two quiet cores
	$(BIN)/python -m pip install --quiet --editable ".[test,bench]"
	$(BIN)/python -m benchmarks

bench-full: $(STAMP)  ## the same on 8,192 x 8,192 and 256 x 256 x 256: the better part of an hour
	$(BIN)/python -m pip install --quiet --editable ".[test,bench]"
	$(BIN)/python -m benchmarks --size full

up: $(STAMP)  ## a Prefect server, a worker and a served demo schedule on this machine; prints the URL
	deploy/local.sh up

down:  ## ends what `make up` started
	deploy/local.sh down

clean:
	rm -rf .venv demo out build *.egg-info
