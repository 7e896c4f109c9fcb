# Two commands on a fresh machine, either first: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo train test bench fuzz soak lint docs dist clean

setup: $(STAMP)

$(STAMP): pyproject.toml src/modelport/__init__.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modelport needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/python examples/digits/train.py .demo

demo: train
	$(BIN)/modelport run recipes/digits.yaml --out .demo/run

test: train lint
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: setup
	$(BIN)/python benchmarks --out .demo/bench.json

# Hours, at low priority: what is found is kept in .demo/fuzz.
fuzz: setup
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	nice -n 19 $(BIN)/python -m fuzz

soak: setup
	nice -n 10 $(BIN)/python benchmarks/soak.py --out .demo/soak.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The pages as a site in build/docs; the variable silences an advertisement in mkdocs-material.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

dist: setup
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf .demo .pytest_cache .ruff_cache build dist
