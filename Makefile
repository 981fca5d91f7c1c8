# One place for every command. `make help` lists them.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
NATIVE := $(shell git ls-files -co --exclude-standard csrc CMakeLists.txt pyproject.toml operator/pyproject.toml 2>/dev/null)

COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --universal
HASHED := --generate-hashes --constraints requirements.lock

.DEFAULT_GOAL := help
.PHONY: help dev demo test e2e check format clean lock manifests cuda

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP)-deps: requirements.lock | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@touch $@

$(STAMP): $(STAMP)-deps $(NATIVE)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
	  $(if $(CI),-C cmake.define.GLM_WERROR=ON) -e . -e operator
	@touch $@

dev: $(STAMP) ## set up .venv with everything, compile the engine

CUDA_HOME ?= build/cuda-toolkit/nvidia/cu13

build/cuda-toolkit/.stamp: requirements-cuda.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --no-deps --target build/cuda-toolkit -r requirements-cuda.txt
	@touch $@

# Without a GPU everything still compiles, for every architecture; a spilled register is an error.
cuda: $(STAMP)-deps build/cuda-toolkit/.stamp ## compile the CUDA backend and its checks into build/cuda
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -G Ninja -S . -B build/cuda -DGLM_CUDA=ON -DGLM_WERROR=ON \
	  -DCMAKE_CUDA_COMPILER=$(abspath $(CUDA_HOME))/bin/nvcc -DCMAKE_CUDA_FLAGS=-L$(abspath $(CUDA_HOME))/lib \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) $(if $(CUDA_ARCHS),-DCMAKE_CUDA_ARCHITECTURES="$(CUDA_ARCHS)") >build/cuda.log
	PATH="$(CURDIR)/$(BIN):$$PATH" nice ninja -C build/cuda >>build/cuda.log || { grep -vE '^ptxas info|bytes stack' build/cuda.log | tail -40; exit 1; }
	$(CUDA_HOME)/bin/cuobjdump --dump-resource-usage build/cuda/csrc/cuda/libglm_cuda.a >build/cuda/registers.txt

demo: $(STAMP) ## convert and serve the sample model on this machine, until Ctrl-C
	$(BIN)/glmctl up manifests/samples/quickstart.yaml

test: $(STAMP) ## all tests that this machine can run
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not e2e and not soak"

e2e: $(STAMP) ## the tests on a real Kubernetes, which they build and start (root, Go, apt)
	$(BIN)/python -m pytest -n 1 --dist loadgroup -m e2e tests/e2e

check: $(STAMP) ## formatting, lint, types, import directions
	$(BIN)/ruff format --check server operator tests tools
	$(BIN)/ruff check server operator tests tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files 'csrc/*.h' 'csrc/*.cc' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(STAMP) ## rewrite to the house format
	$(BIN)/ruff format server operator tests tools
	$(BIN)/ruff check --fix-only --quiet server operator tests tools
	git ls-files -co --exclude-standard 'csrc/*.h' 'csrc/*.cc' 'csrc/*.cu' 'csrc/*.cuh' | xargs $(BIN)/clang-format -i

manifests: $(STAMP) ## write the files that are generated from the code
	$(BIN)/glmctl crd > charts/glm-operator/files/crd.yaml
	$(BIN)/python charts/generate.py

lock: $(BIN)/uv ## resolve the versions anew
	$(COMPILE) pyproject.toml operator/pyproject.toml requirements.in -o requirements.lock
	$(COMPILE) $(HASHED) pyproject.toml --excludes docker/server-excludes.txt -o docker/server.lock
	$(COMPILE) $(HASHED) operator/pyproject.toml -o docker/operator.lock
	$(COMPILE) $(HASHED) docker/tools.in -o docker/tools.lock

clean: ## remove everything that was built here
	rm -rf $(VENV) build dist .cache .demo site
