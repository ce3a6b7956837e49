# Each target does its own set-up in .venv; PYTHON names the interpreter, 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Else glibc gives the memory of every large tensor back and asks the system for it anew, page by page
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.PHONY: demo test lint bench

# Two processes side by side, each with a core of its own, take half the time of one after the other on both:
# the networks are too small to share
demo: export OMP_NUM_THREADS ?= 1
# The reference cases are held to at PyTorch's own number of threads; those of a test then wait for those of another,
# which takes many times as long where they wait by spinning
test: export OMP_WAIT_POLICY ?= PASSIVE

demo: $(BIN)/.ready
	python -m pipelines.repro -j 2
	@cat artifacts/compared/*/table.txt
	@echo "report: artifacts/report/index.html"
	@echo "runs:   $(BIN)/mlflow ui --backend-store-uri sqlite:///artifacts/mlflow.db"

test: $(BIN)/.ready
	python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: $(BIN)/.ready
	ruff check .
	ruff format --check .
	mypy
	lint-imports

bench: $(BIN)/.ready
	python -m benchmarks.latency

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "samebox needs Python 3.10 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
