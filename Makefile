# Each target does its own set-up in .venv; PYTHON names the interpreter, 3.10 or newer.
PYTHON ?= python3
# Not empty: ONNX Runtime's build for CUDA takes the place of the one for the CPU. Default: if the driver is loaded
GPU ?= $(wildcard /proc/driver/nvidia/version)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Otherwise glibc returns the memory of every large tensor to the system and requests it again, page by page
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 8589934592

.PHONY: demo test lint bench

# Two processes with one core each take half the time of one process after the other on two cores: the networks
# are too small to use two threads well
demo: export OMP_NUM_THREADS ?= 1
# The reference cases are compared at PyTorch's default number of threads. Test processes then share the cores, and
# threads that wait by spinning would make the tests many times slower
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
	pip install --quiet --constraint constraints.txt --editable '.[pipeline,test]'
	$(if $(GPU),pip uninstall --quiet --yes onnxruntime onnxruntime-gpu)
	$(if $(GPU),pip install --quiet --constraint constraints.txt onnxruntime-gpu)
	touch $@
