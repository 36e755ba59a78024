# Shorthands for a checkout; the commands themselves are in README.md and CONTRIBUTING.md.
.PHONY: demo test lint format stub bench ci

VENV ?= .venv
PYTHON = $(VENV)/bin/python

$(VENV)/installed: pyproject.toml
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -e ".[train,dev]"
	touch $@

demo: $(VENV)/installed
	$(VENV)/bin/l3edge stream --input examples/scene.flac

test: $(VENV)/installed
	$(PYTHON) -m pytest

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

stub: $(VENV)/installed
	$(PYTHON) -m tests.make_stub

bench: $(VENV)/installed
	$(PYTHON) -m benchmarks

ci:
	bash .ci/run
