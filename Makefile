# Two commands: `make demo` (the main job on the built-in simulated sky) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
SEED ?= 1
DEVICE ?= cpu

.PHONY: demo test check types examples prose bench docs dist install-test clean

demo: $(VENV)/installed
	$(BIN)/szeek run demo --out $(DEMO) --seed $(SEED) --device $(DEVICE)

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(MAKE) --jobs 2 --output-sync types examples prose

types: $(VENV)/installed
	$(BIN)/mypy

examples: $(VENV)/installed
	$(BIN)/python -m pytest -q --doctest-modules src

prose: $(VENV)/installed
	$(BIN)/codespell
	$(BIN)/python docs/check_prose.py

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run_all.py

docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html

# Wheel and sdist, and whether they are as the index wants them.
dist: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

# The wheel in an empty environment, outside the source: it installs with what it asks for, starts, and finds no fault.
install-test: dist
	rm -rf build/try
	$(PYTHON) -m venv build/try
	build/try/bin/pip install --quiet --constraint constraints.txt dist/szeek-*.whl
	cd build/try && env -i PATH=/usr/bin:/bin HOME=$(abspath build/try) bin/szeek --version
	cd build/try && env -i PATH=/usr/bin:/bin HOME=$(abspath build/try) bin/szeek doctor

# The constraint names the CPU build of PyTorch; without it an install may fetch gigabytes of GPU libraries.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) docs/_build build dist
