# Each target does its own set-up in .venv; PYTHON names the interpreter, 3.10 or newer.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait by spinning, as OpenMP's do, take many times as long where two of them share a core
export OMP_WAIT_POLICY ?= PASSIVE
# Else glibc gives the memory of every large tensor back and asks the system for it anew, page by page
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.PHONY: demo test lint bench

# Exports take one core each and go side by side, two at a time; what is timed comes after, alone
demo: $(BIN)/.ready
	dvc repro download
	dvc stage list --name-only | grep '^simplify@' \
		| xargs -P 2 -I TARGET sh -c 'dvc --wait-for-lock repro TARGET || exit 1'
	dvc repro
	@cat artifacts/compared/*/table.txt
	@echo "report: artifacts/report/index.html"
	@echo "runs:   $(BIN)/mlflow ui --backend-store-uri sqlite:///artifacts/mlflow.db"

test: $(BIN)/.ready
	python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: $(BIN)/.ready
	ruff check .
	ruff format --check .
	mypy

bench: $(BIN)/.ready
	python -m benchmarks.latency

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "samebox needs Python 3.10 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@
